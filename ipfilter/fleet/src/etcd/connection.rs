//! A connection to one member.

use std::time::Duration;

use prost::Message;
use tokio::time::timeout;
use tokio_stream::Stream;
use tonic::{
    Request, Status, Streaming,
    client::Grpc,
    codegen::http::uri::PathAndQuery,
    metadata::{Ascii, MetadataValue},
    transport::{Channel, Endpoint},
};
use tonic_prost::ProstCodec;

use super::{
    Credentials, Failure,
    failure::cause,
    messages::{AuthenticateRequest, AuthenticateResponse},
};

/// How long a member may take to accept a connection.
const CONNECT: Duration = Duration::from_secs(2);

/// How long it may take to answer. etcd itself gives up on a request after some 5 to 7 seconds.
const ANSWER: Duration = Duration::from_secs(10);

/// How often a connection on which nothing is sent is asked whether it still works, and how long that may take.
const KEEP_ALIVE: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(3));

/// The largest answer: that of a whole page of chunks.
const LARGEST: usize = 16 << 20;

/// A connection to one member.
#[derive(Clone, Debug)]
pub(super) struct Connection {
    /// The member, as `HOST:PORT`.
    pub(super) member: String,
    channel: Channel,
    token: Option<MetadataValue<Ascii>>,
}

impl Connection {
    /// Connects, and logs in if there is a user.
    pub(super) async fn open(member: &str, credentials: &Credentials) -> Result<Self, Failure> {
        let failed = |error: tonic::transport::Error| Failure::unreachable(member, cause(&error));
        let scheme = if credentials.tls.is_some() {
            "https"
        } else {
            "http"
        };
        let mut endpoint = Endpoint::from_shared(format!("{scheme}://{member}"))
            .map_err(failed)?
            .connect_timeout(CONNECT)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(KEEP_ALIVE.0)
            .keep_alive_timeout(KEEP_ALIVE.1)
            .keep_alive_while_idle(true)
            .initial_stream_window_size(1 << 20)
            .initial_connection_window_size(4 << 20);
        if let Some(tls) = &credentials.tls {
            endpoint = endpoint.tls_config(tls.clone()).map_err(failed)?;
        }
        // The limit for connecting does not hold for the handshake behind it.
        let channel = timeout(2 * CONNECT, endpoint.connect())
            .await
            .map_err(|_| Failure::unreachable(member, "it does not answer"))?
            .map_err(failed)?;
        let mut connection = Self {
            member: member.to_owned(),
            channel,
            token: None,
        };
        if let Some((name, password)) = credentials.login.clone() {
            connection.log_in(name, password).await?;
        }
        Ok(connection)
    }

    async fn log_in(&mut self, name: String, password: String) -> Result<(), Failure> {
        let asked = AuthenticateRequest { name, password };
        let answer: AuthenticateResponse = self.ask("Auth/Authenticate", asked).await?;
        let token = answer.token.parse();
        self.token = Some(token.map_err(|_| Failure::Other("the token can't be sent".into()))?);
        Ok(())
    }

    /// Asks, and waits for the one answer.
    pub(super) async fn ask<Q, A>(&self, method: &str, asked: Q) -> Result<A, Failure>
    where
        Q: Message + Default + Send + Sync + 'static,
        A: Message + Default + Send + Sync + 'static,
    {
        let asking = async {
            let mut grpc = self.ready().await?;
            let path = path(method)?;
            let codec = ProstCodec::<Q, A>::default();
            grpc.unary(self.request(asked), path, codec).await
        };
        match timeout(ANSWER, asking).await {
            Ok(Ok(answer)) => Ok(answer.into_inner()),
            Ok(Err(status)) => Err(Failure::of(&self.member, &status)),
            Err(_) => Err(Failure::unreachable(&self.member, "it does not answer")),
        }
    }

    /// Opens a stream of questions and answers.
    pub(super) async fn stream<Q, A, S>(
        &self,
        method: &str,
        asked: S,
    ) -> Result<Streaming<A>, Failure>
    where
        Q: Message + Default + Send + Sync + 'static,
        A: Message + Default + Send + Sync + 'static,
        S: Stream<Item = Q> + Send + 'static,
    {
        let asking = async {
            let mut grpc = self.ready().await?;
            let path = path(method)?;
            let codec = ProstCodec::<Q, A>::default();
            grpc.streaming(self.request(asked), path, codec).await
        };
        match timeout(ANSWER, asking).await {
            Ok(Ok(answer)) => Ok(answer.into_inner()),
            Ok(Err(status)) => Err(self.failure(&status)),
            Err(_) => Err(Failure::unreachable(&self.member, "it does not answer")),
        }
    }

    pub(super) fn failure(&self, status: &Status) -> Failure {
        Failure::of(&self.member, status)
    }

    async fn ready(&self) -> Result<Grpc<Channel>, Status> {
        let mut grpc = Grpc::new(self.channel.clone()).max_decoding_message_size(LARGEST);
        grpc.ready()
            .await
            .map_err(|error| Status::unavailable(cause(&error)))?;
        Ok(grpc)
    }

    /// A member that has lost the cluster's leader is to say so, rather than to answer from what it last knew or
    /// to let a watch be silent.
    fn request<Q>(&self, asked: Q) -> Request<Q> {
        let mut request = Request::new(asked);
        let metadata = request.metadata_mut();
        metadata.insert("hasleader", MetadataValue::from_static("true"));
        if let Some(token) = &self.token {
            metadata.insert("token", token.clone());
        }
        request
    }
}

fn path(method: &str) -> Result<PathAndQuery, Status> {
    let path = format!("/etcdserverpb.{method}");
    path.parse().map_err(|_| Status::internal("no such method"))
}
