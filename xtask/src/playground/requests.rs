//! Requests, their expected outcomes and their actual ones.

use std::{
    net::IpAddr,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use testkit::netns::{Namespace, Playground};

/// How long curl waits for a connection: an answer here takes a millisecond, and TCP itself tries
/// again after one second.
const PATIENCE: &str = "1.5";

/// curl's exit code when time ran out (manual page of curl, "EXIT CODES").
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
    /// Status 200.
    Answer,
    /// Nothing at all: the connection does not even come about.
    Silence,
}

/// One request to make.
#[derive(Debug, Clone, Copy)]
pub(super) struct Case {
    pub(super) client: Client,
    pub(super) source: &'static str,
    pub(super) target: &'static str,
    /// The state of the filter, to show.
    pub(super) filter: &'static str,
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
        .arg(url(self.target)?);
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
fn url(address: &str) -> Result<String> {
    let address: IpAddr = address.parse()?;
    Ok(match address {
        IpAddr::V4(address) => format!("http://{address}/"),
        IpAddr::V6(address) => format!("http://[{address}]/"),
    })
}

/// What curl got.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Got {
    Status(String),
    Silence,
    Trouble(Option<i32>),
}

impl Got {
    fn new(code: Option<i32>, status: &[u8]) -> Self {
        match code {
            Some(0) => Self::Status(String::from_utf8_lossy(status).into_owned()),
            Some(TIMED_OUT) if status == b"000" => Self::Silence,
            other => Self::Trouble(other),
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
    pub(super) const HEAD: [&str; 7] = [
        "client", "from", "request", "filter", "expected", "got", "time",
    ];

    pub(super) fn is_as_expected(&self) -> bool {
        match self.case.expected {
            Expected::Answer => self.got == Got::Status("200".to_owned()),
            Expected::Silence => self.got == Got::Silence,
        }
    }

    pub(super) fn row(&self) -> Vec<String> {
        let Case {
            client,
            source,
            target,
            filter,
            head,
            expected,
        } = self.case;
        let request = if head { "curl -IX GET" } else { "curl" };
        let expected = match expected {
            Expected::Answer => "200",
            Expected::Silence => "blocked",
        };
        let mut got = match &self.got {
            Got::Status(status) => status.clone(),
            Got::Silence => "blocked".to_owned(),
            Got::Trouble(Some(code)) => format!("curl error {code}"),
            Got::Trouble(None) => "curl was killed".to_owned(),
        };
        if !self.is_as_expected() {
            got.push_str(" (!)");
        }
        vec![
            client.name().to_owned(),
            source.to_owned(),
            format!("{request} {}", url(target).unwrap_or_default()),
            filter.to_owned(),
            expected.to_owned(),
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
            filter: "on",
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
        assert!(!outcome(Expected::Silence, Got::Trouble(Some(7))).is_as_expected());
    }

    #[test]
    fn curls_outcome_is_read_from_its_exit_code_and_the_status() {
        assert_eq!(Got::new(Some(0), b"200"), Got::Status("200".to_owned()));
        assert_eq!(Got::new(Some(28), b"000"), Got::Silence);
        // It connected and then waited in vain.
        assert_eq!(Got::new(Some(28), b"200"), Got::Trouble(Some(28)));
        assert_eq!(Got::new(Some(7), b"000"), Got::Trouble(Some(7)));
        assert_eq!(Got::new(None, b""), Got::Trouble(None));
    }

    #[test]
    fn a_row_marks_what_is_wrong() {
        let row = outcome(Expected::Silence, Got::Status("200".to_owned())).row();
        assert_eq!(
            row,
            [
                "denied",
                "2001:db8:113::10",
                "curl http://[2001:db8:2::2]/",
                "on",
                "blocked",
                "200 (!)",
                "2.0 ms"
            ]
        );
    }
}
