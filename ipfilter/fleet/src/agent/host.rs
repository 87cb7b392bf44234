//! The filter's process of this host, as the agent asks it.

use std::{future::Future, io, os::unix::net::UnixStream, path::Path, sync::Arc, time::Duration};

use ipfilter_bundle::{
    SignedRelease, frame,
    message::{AgentReport, Answer, HostState, Outcome, Request},
};
use serde::de::DeserializeOwned;

/// How long a deployment may take before the connection is given up.
const DEPLOYMENT: Duration = Duration::from_secs(180);

/// How long the answer to a question may take. It waits for a deployment that is under way.
const QUESTION: Duration = Duration::from_secs(60);

/// What an agent asks of its host. Tests have hosts without a filter.
pub(crate) trait Host: Clone + Send + Sync + 'static {
    /// How is it? And how the agent is, which the host shows.
    fn state(&self, agent: AgentReport) -> impl Future<Output = Result<HostState, String>> + Send;

    /// Offers a release: a bundle, or the group's overrides.
    fn offer(
        &self,
        release: SignedRelease,
        content: Arc<Vec<u8>>,
    ) -> impl Future<Output = Result<Outcome, String>> + Send;
}

/// A filter's process, by its socket for agents.
#[derive(Clone, Debug)]
pub(crate) struct Socket {
    path: Arc<Path>,
}

impl Socket {
    pub(crate) fn new(path: &Path) -> Self {
        Self { path: path.into() }
    }

    async fn ask(&self, request: Request, body: Arc<Vec<u8>>) -> Result<Answer, String> {
        let path = Arc::clone(&self.path);
        let asking = move || ask::<Answer>(&path, &request, &body);
        let asked = tokio::task::spawn_blocking(asking).await;
        let answer = asked.unwrap_or_else(|error| Err(io::Error::other(error)));
        answer.map_err(|error| {
            format!(
                "the filter's process can't be asked at `{}`: {}",
                self.path.display(),
                explain(&error)
            )
        })
    }
}

fn ask<A: DeserializeOwned>(path: &Path, request: &Request, body: &[u8]) -> io::Result<A> {
    let mut stream = UnixStream::connect(path)?;
    let patience = match request {
        Request::State | Request::Report(_) => QUESTION,
        Request::Offer(_) | Request::Overrides(_) => DEPLOYMENT,
    };
    stream.set_read_timeout(Some(patience))?;
    stream.set_write_timeout(Some(patience))?;
    frame::ask(&mut stream, request, body)
}

fn explain(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
            "it does not run, or its configuration has no `fleet`".into()
        }
        io::ErrorKind::PermissionDenied => {
            "this user may not: run the agent as the user that `fleet` names".into()
        }
        io::ErrorKind::UnexpectedEof
        | io::ErrorKind::ConnectionReset
        | io::ErrorKind::BrokenPipe => "it has closed the connection".into(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => "it does not answer".into(),
        _ => error.to_string(),
    }
}

impl Host for Socket {
    async fn state(&self, agent: AgentReport) -> Result<HostState, String> {
        match self.ask(Request::Report(agent), Arc::default()).await? {
            Answer::State(state) => Ok(*state),
            Answer::Error(why) => Err(why),
            Answer::Outcome(_) => Err("the filter's process answers something else".into()),
        }
    }

    async fn offer(
        &self,
        release: SignedRelease,
        content: Arc<Vec<u8>>,
    ) -> Result<Outcome, String> {
        let request = match release.release.kind {
            ipfilter_bundle::Kind::Bundle => Request::Offer(release),
            ipfilter_bundle::Kind::Overrides => Request::Overrides(release),
        };
        match self.ask(request, content).await? {
            Answer::Outcome(outcome) => Ok(outcome),
            Answer::Error(why) => Err(why),
            Answer::State(_) => Err("the filter's process answers something else".into()),
        }
    }
}
