//! Requests, their expected outcomes and their actual ones.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use testkit::netns::{Namespace, Playground};

/// How long curl waits for a connection: an answer here takes a millisecond.
const PATIENCE: &str = "0.8";

/// curl's exit codes (manual page of curl, "EXIT CODES") when the connection was refused and when time ran out.
const REFUSED: i32 = 7;
const TIMED_OUT: i32 = 28;

/// Which client asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Client {
    Allowed,
    Denied,
}

impl Client {
    fn name(self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::Denied => "denied",
        }
    }

    fn namespace(self, network: &Playground) -> &Namespace {
        match self {
            Self::Allowed => &network.allowed,
            Self::Denied => &network.denied,
        }
    }
}

/// The expected outcome of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Expected {
    /// Status 200, from the API.
    Answer,
    /// Status 403, from the filter.
    Forbidden,
    /// The connection is reset.
    Reset,
    /// Nothing at all: the connection does not even come about.
    Silence,
}

impl Expected {
    fn text(self) -> &'static str {
        match self {
            Self::Answer => "200",
            Self::Forbidden => "403",
            Self::Reset => "reset",
            Self::Silence => "no answer",
        }
    }
}

/// One request to make.
#[derive(Debug, Clone, Copy)]
pub(super) struct Case {
    /// What happened last, to show.
    pub(super) after: &'static str,
    pub(super) client: Client,
    pub(super) source: &'static str,
    pub(super) target: &'static str,
    pub(super) port: u16,
    /// Ask as the article does, for the headers of a GET: `curl -IX GET`.
    pub(super) head: bool,
    pub(super) expected: Expected,
}

impl Case {
    pub(super) fn ask(&self, network: &Playground) -> Result<Outcome> {
        let mut curl = self.client.namespace(network).command("curl");
        // Standard output then holds the status alone; `000` means none.
        curl.args([
            "--silent",
            "--output",
            "/dev/null",
            "--write-out",
            "%{http_code}",
        ])
        // A proxy set for the user's own network is none here.
        .args([
            "--noproxy",
            "*",
            "--connect-timeout",
            PATIENCE,
            "--max-time",
            "5",
        ])
        .args(self.head.then_some("-IXGET"))
        .args(["--interface", self.source])
        .arg(url(self.target, self.port)?);
        let start = Instant::now();
        let output = curl.output().context("can't start curl")?;
        Ok(Outcome {
            case: *self,
            got: Got::new(output.status.code(), &output.stdout),
            time: start.elapsed(),
        })
    }
}

/// The address as a URL: IPv6 goes in brackets (RFC 3986, section 3.2.2).
fn url(address: &str, port: u16) -> Result<String> {
    let address = SocketAddr::new(address.parse()?, port);
    Ok(format!("http://{address}/"))
}

/// What curl got.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Got {
    Status(String),
    Reset,
    Silence,
    Trouble(Option<i32>),
}

impl Got {
    fn new(code: Option<i32>, status: &[u8]) -> Self {
        match code {
            Some(0) => Self::Status(String::from_utf8_lossy(status).into_owned()),
            Some(TIMED_OUT) if status == b"000" => Self::Silence,
            Some(REFUSED) => Self::Reset,
            other => Self::Trouble(other),
        }
    }

    fn text(&self) -> String {
        match self {
            Self::Status(status) => status.clone(),
            Self::Reset => Expected::Reset.text().to_owned(),
            Self::Silence => Expected::Silence.text().to_owned(),
            Self::Trouble(Some(code)) => format!("curl error {code}"),
            Self::Trouble(None) => "curl was killed".to_owned(),
        }
    }
}

/// What a request came to.
#[derive(Debug, Clone)]
pub(super) struct Outcome {
    case: Case,
    got: Got,
    time: Duration,
}

impl Outcome {
    pub(super) const HEAD: [&str; 7] = ["", "client", "from", "request", "expected", "got", "time"];

    pub(super) fn is_as_expected(&self) -> bool {
        self.got.text() == self.case.expected.text()
    }

    pub(super) fn row(&self) -> Vec<String> {
        let Case {
            after,
            client,
            source,
            target,
            port,
            head,
            expected,
        } = self.case;
        let request = if head { "curl -IX GET" } else { "curl" };
        let mut got = self.got.text();
        if !self.is_as_expected() {
            got.push_str(" (!)");
        }
        vec![
            after.to_owned(),
            client.name().to_owned(),
            source.to_owned(),
            format!("{request} {}", url(target, port).unwrap_or_default()),
            expected.text().to_owned(),
            got,
            format!("{:.1} ms", self.time.as_secs_f64() * 1e3),
        ]
    }
}

#[cfg(test)]
mod tests {
    use testkit::netns::{DENIED, HOST};

    use super::*;

    fn outcome(expected: Expected, got: Got) -> Outcome {
        let case = Case {
            client: Client::Denied,
            source: DENIED.v6,
            target: HOST.v6,
            after: "filtered",
            port: 80,
            head: false,
            expected,
        };
        Outcome {
            case,
            got,
            time: Duration::from_millis(2),
        }
    }

    #[test]
    fn only_the_expected_is_fine() {
        let answer = || Got::Status("200".to_owned());
        assert!(outcome(Expected::Answer, answer()).is_as_expected());
        assert!(outcome(Expected::Silence, Got::Silence).is_as_expected());
        assert!(!outcome(Expected::Silence, answer()).is_as_expected());
        assert!(!outcome(Expected::Answer, Got::Silence).is_as_expected());
        assert!(!outcome(Expected::Answer, Got::Status("403".to_owned())).is_as_expected());
        // A refused connection or a missing route is no filter's silence.
        assert!(!outcome(Expected::Silence, Got::Reset).is_as_expected());
        assert!(!outcome(Expected::Silence, Got::Trouble(Some(6))).is_as_expected());
        assert!(outcome(Expected::Forbidden, Got::Status("403".to_owned())).is_as_expected());
        assert!(outcome(Expected::Reset, Got::Reset).is_as_expected());
    }

    #[test]
    fn curls_outcome_is_read_from_its_exit_code_and_the_status() {
        assert_eq!(Got::new(Some(0), b"200"), Got::Status("200".to_owned()));
        assert_eq!(Got::new(Some(28), b"000"), Got::Silence);
        // It connected and then waited in vain.
        assert_eq!(Got::new(Some(28), b"200"), Got::Trouble(Some(28)));
        assert_eq!(Got::new(Some(7), b"000"), Got::Reset);
        assert_eq!(Got::new(None, b""), Got::Trouble(None));
    }

    #[test]
    fn a_row_marks_what_is_wrong() {
        let row = outcome(Expected::Silence, Got::Status("200".to_owned())).row();
        assert_eq!(
            row,
            [
                "filtered",
                "denied",
                "2001:db8:113::10",
                "curl http://[2001:db8:2::2]:80/",
                "no answer",
                "200 (!)",
                "2.0 ms"
            ]
        );
    }
}
