//! A client of the cluster.

use std::time::Duration;

use prost::Message;
use tokio::{sync::Mutex, time::sleep};

use super::{
    Credentials, Failure, KeyValue, Place, Txn, Watch, behind,
    connection::Connection,
    messages::{
        Done, LeaseGrantRequest, LeaseGrantResponse, LeaseKeepAliveRequest, LeaseKeepAliveResponse,
        LeaseRevokeRequest, PutRequest, RangeRequest, RangeResponse, TxnResponse,
    },
};

/// How often every member is tried before a request fails.
const ROUNDS: usize = 3;

/// How long to wait between two rounds: an election takes one to two seconds.
const PAUSE: Duration = Duration::from_millis(700);

/// A client of the cluster. It asks one member, and the next one if that fails.
#[derive(Debug)]
pub(crate) struct Client {
    members: Vec<String>,
    credentials: Credentials,
    current: Mutex<Current>,
    rounds: usize,
}

#[derive(Debug, Default)]
struct Current {
    /// The one to try next, if there is no connection.
    next: usize,
    connection: Option<Connection>,
}

impl Client {
    /// One that does not give up before an election is over: for commands.
    pub(crate) fn patient(place: &Place, credentials: Credentials) -> Self {
        Self {
            members: place.members.clone(),
            credentials,
            current: Mutex::default(),
            rounds: ROUNDS,
        }
    }

    /// One that tries each member once, beginning with any of them, for whoever tries again anyway.
    pub(crate) fn eager(place: &Place, credentials: Credentials, first: usize) -> Self {
        let current = Current {
            next: first,
            connection: None,
        };
        Self {
            rounds: 1,
            current: Mutex::new(current),
            ..Self::patient(place, credentials)
        }
    }

    /// The member that is asked at present.
    pub(crate) async fn member(&self) -> Option<String> {
        let current = self.current.lock().await;
        current.connection.as_ref().map(|it| it.member.clone())
    }

    async fn connection(&self) -> Result<Connection, Failure> {
        let mut current = self.current.lock().await;
        if let Some(connection) = &current.connection {
            return Ok(connection.clone());
        }
        let index = current.next % self.members.len().max(1);
        let member = self.members.get(index).map_or("", String::as_str);
        match Connection::open(member, &self.credentials).await {
            Ok(connection) => {
                current.connection = Some(connection.clone());
                Ok(connection)
            }
            Err(failure) => {
                current.next = index + 1;
                Err(failure)
            }
        }
    }

    /// Goes on to the next member.
    async fn give_up(&self, on: &Connection) {
        let mut current = self.current.lock().await;
        let connection = current.connection.as_ref();
        if connection.is_some_and(|it| it.member == on.member) {
            let index = self.members.iter().position(|it| *it == on.member);
            current.next = index.map_or(0, |index| index + 1);
            current.connection = None;
        }
    }

    async fn ask<Q, A>(&self, method: &str, asked: Q) -> Result<A, Failure>
    where
        Q: Message + Clone + Default + Send + Sync + 'static,
        A: Message + Default + Send + Sync + 'static,
    {
        let mut failure = Failure::Other("no member is given".into());
        for round in 0..self.rounds {
            if round > 0 {
                sleep(PAUSE).await;
            }
            for _ in &self.members {
                match self.ask_once(method, asked.clone()).await {
                    Ok(answer) => return Ok(answer),
                    Err(error) if !error.is_passing() => return Err(error),
                    Err(error) => failure = error,
                }
            }
        }
        Err(failure)
    }

    async fn ask_once<Q, A>(&self, method: &str, asked: Q) -> Result<A, Failure>
    where
        Q: Message + Clone + Default + Send + Sync + 'static,
        A: Message + Default + Send + Sync + 'static,
    {
        let connection = self.connection().await?;
        let answer = connection.ask(method, asked.clone()).await;
        match answer {
            // A token is good for some minutes; whoever logs in anew gets another.
            Err(Failure::Unauthorised(_)) if self.credentials.login.is_some() => {
                self.give_up(&connection).await;
                let connection = self.connection().await?;
                connection.ask(method, asked).await
            }
            Err(error) if error.is_passing() => {
                self.give_up(&connection).await;
                Err(error)
            }
            answer => answer,
        }
    }

    /// The value of a key, and the revision at which this is so.
    pub(crate) async fn get(&self, key: &str) -> Result<(Option<KeyValue>, i64), Failure> {
        let (mut kvs, revision) = self.range(key.into(), Vec::new(), false).await?;
        Ok((kvs.pop(), revision))
    }

    /// All keys that begin so, ascending, with their values.
    pub(crate) async fn get_prefix(&self, prefix: &str) -> Result<Vec<KeyValue>, Failure> {
        let found = self.range(prefix.into(), behind(prefix), false).await?;
        Ok(found.0)
    }

    /// All keys that begin so, ascending, without their values.
    pub(crate) async fn keys(&self, prefix: &str) -> Result<Vec<String>, Failure> {
        let found = self.range(prefix.into(), behind(prefix), true).await?;
        let keys = found.0.into_iter().map(|kv| String::from_utf8(kv.key));
        Ok(keys.filter_map(Result::ok).collect())
    }

    /// All keys from `first` to before `end`, ascending, with their values.
    pub(crate) async fn get_range(&self, first: &str, end: &str) -> Result<Vec<KeyValue>, Failure> {
        let found = self.range(first.into(), end.into(), false).await?;
        Ok(found.0)
    }

    async fn range(
        &self,
        key: Vec<u8>,
        range_end: Vec<u8>,
        keys_only: bool,
    ) -> Result<(Vec<KeyValue>, i64), Failure> {
        let asked = RangeRequest {
            key,
            range_end,
            keys_only,
        };
        let answer: RangeResponse = self.ask("KV/Range", asked).await?;
        Ok((answer.kvs, answer.header.unwrap_or_default().revision))
    }

    /// Writes a value, which lives as long as `lease` unless that is 0.
    pub(crate) async fn put(&self, key: &str, value: Vec<u8>, lease: i64) -> Result<(), Failure> {
        let asked = PutRequest {
            key: key.into(),
            value,
            lease,
        };
        let _: Done = self.ask("KV/Put", asked).await?;
        Ok(())
    }

    /// Makes the changes of a transaction; whether it was as it was to be.
    pub(crate) async fn txn(&self, txn: Txn) -> Result<bool, Failure> {
        let answer: TxnResponse = self.ask("KV/Txn", txn.into_request()).await?;
        Ok(answer.succeeded)
    }

    /// A lease that runs out after so many seconds.
    pub(crate) async fn grant(&self, ttl: Duration) -> Result<i64, Failure> {
        let ttl = i64::try_from(ttl.as_secs()).unwrap_or(i64::MAX);
        let answer: LeaseGrantResponse = self
            .ask("Lease/LeaseGrant", LeaseGrantRequest { ttl })
            .await?;
        match answer.error.as_str() {
            "" => Ok(answer.id),
            error => Err(Failure::Other(error.to_owned())),
        }
    }

    /// Ends a lease, and the keys that live by it.
    pub(crate) async fn revoke(&self, id: i64) -> Result<(), Failure> {
        let _: Done = self
            .ask("Lease/LeaseRevoke", LeaseRevokeRequest { id })
            .await?;
        Ok(())
    }

    /// Has a lease begin anew.
    pub(crate) async fn keep_alive(&self, id: i64) -> Result<(), Failure> {
        let connection = self.connection().await?;
        let asked = tokio_stream::once(LeaseKeepAliveRequest { id });
        let answers = connection.stream("Lease/LeaseKeepAlive", asked).await;
        let answer = match answers {
            Ok(mut answers) => {
                let next = tokio::time::timeout(Duration::from_secs(5), answers.message());
                match next.await {
                    Ok(answer) => answer.map_err(|status| connection.failure(&status)),
                    Err(_) => Err(Failure::unreachable(
                        &connection.member,
                        "it does not answer",
                    )),
                }
            }
            Err(error) => Err(error),
        };
        let answer: Option<LeaseKeepAliveResponse> = match answer {
            Ok(answer) => answer,
            Err(error) => {
                self.give_up(&connection).await;
                return Err(error);
            }
        };
        if answer.unwrap_or_default().ttl <= 0 {
            return Err(Failure::Expired);
        }
        Ok(())
    }

    /// Watches keys, or all that begin so if they end in `/`, from a revision on. The watch is of the member that
    /// was asked last, and fails with it.
    pub(crate) async fn watch(&self, keys: &[String], from: i64) -> Result<Watch, Failure> {
        let connection = self.connection().await?;
        let watch = Watch::open(&connection, keys, from).await;
        if watch.is_err() {
            self.give_up(&connection).await;
        }
        watch
    }

    /// Whoever waited for this member waits for the next one.
    pub(crate) async fn reconnect(&self) {
        let connection = self.current.lock().await.connection.clone();
        if let Some(connection) = connection {
            self.give_up(&connection).await;
        }
    }
}
