//! What a client gets from the API: found out by conditions, so that a slow machine changes nothing.

use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::{IpAddr, SocketAddr, TcpStream},
    os::fd::OwnedFd,
    thread,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
    net::{AddressFamily, SocketFlags, SocketType, connect, socket_with, sockopt},
};
use testkit::netns::Namespace;

use super::{PATIENCE, inside};

/// The mock API's port.
const API: u16 = 80;

/// A port of the host that no filter here protects and nobody listens at: whoever tries it is
/// refused by the host itself.
const CLOSED: u16 = 9;

/// How many tries at [`CLOSED`] must have come back, one after the other, before a connection that
/// was asked for earlier and has no answer counts as dropped. More than one, because packets of
/// different connections may go by different processors.
const PROOFS: usize = 5;

/// The outcome of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// An HTTP status.
    Status(String),
    /// The connection was refused, or ended without an answer.
    Refused,
    /// No answer at all, while the way to the host and back was open.
    Silence,
}

impl Answer {
    /// As curl writes it: `000` is no status.
    pub(crate) fn status(self) -> String {
        match self {
            Self::Status(status) => status,
            Self::Refused | Self::Silence => "000".to_owned(),
        }
    }
}

/// Asks the API at this address of the host's. An answer is waited for as long as it takes;
/// silence is proven by later packets on the same way, which come back.
pub(crate) fn ask(client: &Namespace, host: &str) -> Answer {
    let host: IpAddr = host.parse().expect("an address");
    thread::scope(|scope| {
        let asking = inside(scope, client, move || match open(host) {
            Ok(connection) => request(connection.into()),
            Err(no) => no,
        });
        asking.join().expect("it asks")
    })
}

fn open(host: IpAddr) -> Result<OwnedFd, Answer> {
    let family = match host {
        IpAddr::V4(_) => AddressFamily::INET,
        IpAddr::V6(_) => AddressFamily::INET6,
    };
    let socket = socket_with(family, SocketType::STREAM, SocketFlags::NONBLOCK, None);
    let socket = socket.expect("a socket");
    match connect(&socket, &SocketAddr::new(host, API)) {
        Ok(()) | Err(Errno::INPROGRESS) => {}
        // There is no way there.
        Err(_) => return Err(Answer::Refused),
    }
    for _ in 0..PROOFS {
        if is_decided(&socket) {
            break;
        }
        prove_the_way(host);
    }
    if !is_decided(&socket) {
        return Err(Answer::Silence);
    }
    match sockopt::socket_error(&socket).expect("a socket") {
        Ok(()) => Ok(socket),
        Err(_) => Err(Answer::Refused),
    }
}

fn is_decided(socket: &OwnedFd) -> bool {
    let mut fds = [PollFd::new(socket, PollFlags::OUT)];
    poll(&mut fds, Some(&Timespec::default())).expect("a socket") > 0
}

/// Returns once a packet has been to the host and back, or there is no way.
fn prove_the_way(host: IpAddr) {
    match TcpStream::connect_timeout(&SocketAddr::new(host, CLOSED), PATIENCE) {
        Err(error) => assert_ne!(error.kind(), ErrorKind::TimedOut, "{host}: {error}"),
        Ok(_) => panic!("somebody listens at {host}, port {CLOSED}"),
    }
}

fn request(mut connection: TcpStream) -> Answer {
    connection.set_nonblocking(false).expect("a socket");
    let patience = Some(PATIENCE);
    connection.set_read_timeout(patience).expect("a timeout");
    let mut said = Vec::new();
    let asked = connection.write_all(b"GET / HTTP/1.1\r\nHost: api\r\nConnection: close\r\n\r\n");
    let read = asked.and_then(|()| connection.read_to_end(&mut said));
    let said = String::from_utf8_lossy(&said);
    match said
        .strip_prefix("HTTP/1.1 ")
        .and_then(|rest| rest.get(..3))
    {
        Some(status) => Answer::Status(status.to_owned()),
        None => {
            let timeout = read.is_err_and(|error| error.kind() == ErrorKind::WouldBlock);
            assert!(!timeout, "connected, and no answer came: {said}");
            Answer::Refused
        }
    }
}
