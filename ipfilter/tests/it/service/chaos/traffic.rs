//! The clients of both kinds, what receives them, and what is counted of it.

use std::{
    io::ErrorKind,
    net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream, UdpSocket},
    os::fd::OwnedFd,
    sync::{
        Barrier, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use ipfilter::{packet::Packet, plan::Protocol};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, ipproto, recvfrom, sendto,
    socket, socket_with, sockopt::set_socket_recv_buffer_size_force,
};
use testkit::netns::HOST;

use crate::lab::PATIENCE;

/// How long the denied client waits for an answer, which it must not get.
pub(super) const SHORT: Duration = Duration::from_millis(900);

/// The receiver's buffer, in bytes: for minutes.
const ROOM: usize = 256 << 20;

/// The port of the API.
const API: u16 = 80;

/// The length of an Ethernet header without tags.
const ETHERNET: usize = 14;

/// What was sent and what arrived.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// Connections of the allowed client.
    pub(super) up: AtomicU64,
    pub(super) down: AtomicU64,
    /// Its datagrams.
    pub(super) sent: AtomicU64,
    pub(super) received: AtomicU64,
    /// Connections of the denied client.
    pub(super) denied_up: AtomicU64,
    pub(super) denied_down: AtomicU64,
    /// Packets made by hand, from all over its network.
    pub(super) denied_sent: AtomicU64,
    /// Packets of its network to the API that the host has seen.
    pub(super) denied_seen: AtomicU64,
    /// The first of these: when, from whom, and the beginning of what is behind the IPv6 or from the IPv4 header on.
    pub(super) first_seen: OnceLock<String>,
}

impl Tally {
    /// Whether there was enough of everything to say something.
    pub(super) fn is_telling(&self) -> bool {
        let count = |counter: &AtomicU64| counter.load(Relaxed);
        count(&self.up) > 100
            && count(&self.sent) > 1000
            && count(&self.denied_down) > 100
            && count(&self.denied_sent) > 1000
    }
}

/// What controls the clients.
#[derive(Default)]
pub(super) struct Signals {
    pub(super) stop: AtomicBool,
    /// The link is down: the allowed client's packets can't arrive.
    pub(super) pause: AtomicBool,
    /// All that was sent is there.
    pub(super) deaf: AtomicBool,
    /// How many of its threads are in the middle of something.
    busy: AtomicU64,
}

impl Signals {
    pub(super) fn stopped(&self) -> bool {
        self.stop.load(Relaxed)
    }

    /// Does `what`, unless there is a pause.
    pub(super) fn unless_paused(&self, what: impl FnOnce()) {
        self.busy.fetch_add(1, Relaxed);
        if !self.pause.load(Relaxed) {
            what();
        }
        self.busy.fetch_sub(1, Relaxed);
        thread::sleep(Duration::from_millis(1));
    }

    pub(super) fn pause(&self) {
        self.pause.store(true, Relaxed);
        let start = Instant::now();
        while self.busy.load(Relaxed) > 0 {
            assert!(start.elapsed() < PATIENCE);
            thread::sleep(Duration::from_millis(1));
        }
    }
}

pub(super) fn connect(host: &str, limit: Duration, up: &AtomicU64, down: &AtomicU64) {
    let host = SocketAddr::new(host.parse().expect("an address"), 80);
    match TcpStream::connect_timeout(&host, limit) {
        Ok(_) => up.fetch_add(1, Relaxed),
        Err(_) => down.fetch_add(1, Relaxed),
    };
}

/// Sends datagrams one by one.
pub(super) fn datagrams(host: &str, signals: &Signals, sent: &AtomicU64) {
    let any = if host.contains(':') {
        "[::]:0"
    } else {
        "0.0.0.0:0"
    };
    let socket = UdpSocket::bind(any).expect("a socket");
    socket
        .connect(SocketAddr::new(host.parse().expect("an address"), 80))
        .expect("a route");
    while !signals.stopped() {
        signals.unless_paused(|| {
            socket.send(b"allowed").expect("it is sent");
            sent.fetch_add(1, Relaxed);
        });
    }
}

/// Receives them. The mock has no use for port 80 of UDP.
pub(super) fn receive(signals: &Signals, ready: &Barrier, received: &AtomicU64) {
    let socket = UdpSocket::bind("[::]:80").expect("a socket");
    let tick = Some(Duration::from_millis(10));
    socket.set_read_timeout(tick).expect("a timeout");
    // A receiver that does not get to run must not lose any.
    set_socket_recv_buffer_size_force(&socket, ROOM).expect("root may have it");
    ready.wait();
    while !signals.deaf.load(Relaxed) {
        match socket.recv_from(&mut [0; 64]) {
            Ok((_, from)) if is_denied(from.ip()) => {}
            Ok(_) => drop(received.fetch_add(1, Relaxed)),
            Err(error) => assert!(matches!(
                error.kind(),
                ErrorKind::WouldBlock | ErrorKind::TimedOut
            )),
        }
    }
}

fn is_denied(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.octets().starts_with(&[203, 0, 113]),
        IpAddr::V6(address) => match address.to_ipv4_mapped() {
            Some(address) => is_denied(address.into()),
            None => address.octets().starts_with(&[0x20, 1, 0xd, 0xb8, 1, 0x13]),
        },
    }
}

/// Sends packets from every address of the denied network, TCP and UDP in turn, made by hand.
pub(super) fn forge(signals: &Signals, sent: &AtomicU64) {
    let raw = socket(AddressFamily::INET, SocketType::RAW, Some(ipproto::RAW)).expect("a socket");
    let host: Ipv4Addr = HOST.v4.parse().expect("an address");
    while !signals.stopped() {
        for last in 1..=254 {
            let protocol = [Protocol::Tcp, Protocol::Udp][usize::from(last % 2)];
            let frame = Packet {
                mac: [0; 6],
                vlans: Vec::new(),
                source: Ipv4Addr::new(203, 0, 113, last).into(),
                destination: host.into(),
                protocol,
                port: 80,
                fragment: None,
            }
            .frame()
            .expect("a frame");
            // While the link is down there may be no way.
            if sendto(
                &raw,
                &frame[ETHERNET..],
                SendFlags::empty(),
                &SocketAddrV4::new(host, 0),
            )
            .is_ok()
            {
                sent.fetch_add(1, Relaxed);
            }
            thread::sleep(Duration::from_micros(500));
        }
    }
}

/// The port that a packet is for, as a raw socket hands it over: IPv4 with its header, IPv6 without ("raw(7)",
/// "ipv6(7)").
fn port(source: IpAddr, packet: &[u8]) -> Option<u16> {
    let header = match source {
        IpAddr::V4(_) => usize::from(packet.first()? & 15) * 4,
        IpAddr::V6(_) => 0,
    };
    let port = packet.get(header + 2..header + 4)?;
    Some(u16::from_be_bytes([port[0], port[1]]))
}

/// Counts the packets of the denied network that get past the filter to the API: raw sockets see all of a
/// protocol. What goes to another port is not filtered, such as the tries by which a test that gets no answer
/// finds out that it is not to get one.
pub(super) fn witness(signals: &Signals, tally: &Tally) {
    let families = [AddressFamily::INET, AddressFamily::INET6];
    let sockets: Vec<OwnedFd> = families
        .into_iter()
        .flat_map(|family| {
            [ipproto::TCP, ipproto::UDP].map(|protocol| {
                socket_with(
                    family,
                    SocketType::RAW,
                    SocketFlags::NONBLOCK,
                    Some(protocol),
                )
                .expect("a socket")
            })
        })
        .collect();
    while !signals.stopped() {
        for socket in &sockets {
            let mut buffer = [0_u8; 64];
            while let Ok((read, _, Some(from))) =
                recvfrom(socket, &mut buffer[..], RecvFlags::empty())
            {
                let from = SocketAddr::try_from(from).expect("an address");
                let packet = &buffer[..read];
                if is_denied(from.ip()) && port(from.ip(), packet).is_none_or(|port| port == API) {
                    tally.first_seen.get_or_init(|| {
                        let time = jiff::Timestamp::now();
                        format!("{time} from {}: {packet:02x?}", from.ip())
                    });
                    tally.denied_seen.fetch_add(1, Relaxed);
                }
            }
        }
        thread::sleep(Duration::from_millis(5));
    }
}
