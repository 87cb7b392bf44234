//! Two hosts that hear the same sender, one of them behind the filter.
#![expect(
    unsafe_code,
    reason = "no safe call binds a packet socket to an interface"
)]

use std::{
    io::IoSlice,
    net::{TcpListener, UdpSocket},
    os::fd::{AsFd as _, AsRawFd as _, OwnedFd},
    process::{Command, Output},
    thread,
    time::{Duration, Instant, SystemTime},
};

use ipfilter::{
    addresses::AddressSet,
    kernel::{Deployment, Filter, Interface, Mode},
    plan::{Api, Deny, Plan, Protocols, Response},
};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
    net::{
        AddressFamily, MMsgHdr, RecvFlags, SendAncillaryBuffer, SendFlags, SocketType, ipproto,
        netdevice::name_to_index, recv, sendmmsg, socket,
        sockopt::set_socket_recv_buffer_size_force,
    },
};
use testkit::netns::{HOST, Namespace, Network, ROUTER};

use super::frames::{HOST_MAC, MARKER, PORT, SENDER_MAC, TUNNEL_ID, TUNNEL_MAC, TUNNEL_PORT};
use crate::lab::{inside, instance};

/// How long a frame may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// What the hosts look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// The addresses are the interface's.
    Plain,
    /// The interface is a bridge's port, and the addresses are the bridge's.
    Bridge,
    /// As plain, and there is a tunnel that ends here, with an interface of its own.
    Tunnel,
}

/// Something that came to the protected port.
pub(super) struct Seen {
    /// The number that its sender put into it.
    pub(super) token: u32,
    /// Whether the transport header is whole.
    pub(super) whole: bool,
    pub(super) bytes: Vec<u8>,
}

/// A host, and the sender's way to it.
pub(super) struct Link {
    sender: OwnedFd,
    udp: UdpSocket,
    raw: [OwnedFd; 2],
    _tcp: TcpListener,
}

pub(super) struct Bed {
    pub(super) open: Link,
    pub(super) filtered: Link,
    host: Namespace,
    shape: Shape,
    mode: Option<Mode>,
    filter: Filter,
    instance: String,
    deployment: Option<Deployment>,
    /// Last, so that it outlives what is in it.
    _network: Network,
}

impl Bed {
    pub(super) fn new(tag: &str, shape: Shape) -> Self {
        testkit::need_root("the delivery tests, which make network namespaces,").expect("root");
        let mut network = Network::new(tag).expect("a network");
        let sender = network.add("sender").expect("a namespace");
        let [open, filtered] = ["open", "filtered"].map(|name| {
            let host = network.add(name).expect("a namespace");
            (name, host)
        });
        let links = [&open, &filtered].map(|(name, host)| {
            network
                .link((host, "eth0", &[]), (&sender, name, &[]))
                .expect("a link");
            set_up(host, shape);
            link(&sender, name, host)
        });
        let [open, filtered_link] = links;
        let instance = instance(tag);
        Self {
            open,
            filtered: filtered_link,
            host: filtered.1,
            shape,
            mode: None,
            filter: Filter::of(&instance.parse().expect("a name")),
            instance,
            deployment: None,
            _network: network,
        }
    }

    /// Whether what the tunnel carries is judged: native XDP is not for tunnels' interfaces.
    pub(super) fn has_tunnel(&self) -> bool {
        self.shape == Shape::Tunnel && self.mode != Some(Mode::Native)
    }

    /// Attaches the filter to the second host.
    pub(super) fn filter(&mut self, mode: Mode) {
        self.mode = Some(mode);
        let names = if self.has_tunnel() {
            vec!["eth0".to_owned(), "tunnel".to_owned()]
        } else {
            vec!["eth0".to_owned()]
        };
        let filter = &self.filter;
        let host = &self.host;
        let deployment = thread::scope(|scope| {
            let deploy = || {
                let interfaces = Interface::matching(&names, &[]).expect("interfaces");
                let interfaces = interfaces.complete().expect("all of them");
                filter.deploy(&plan(), &interfaces, mode, SystemTime::now())
            };
            inside(scope, host, deploy).join().expect("it deploys")
        });
        self.deployment = Some(deployment.unwrap_or_else(|error| panic!("{mode:?}: {error}")));
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        drop(self.deployment.take());
        let binary = env!("CARGO_BIN_EXE_ipfilter");
        let mut detach = self.host.command(binary);
        // Best effort: what a failing test leaves must not disturb the next one.
        let _: std::io::Result<Output> = detach
            .args(["--instance", &self.instance, "detach"])
            .output();
    }
}

/// Allowed sources may call the port, nobody else.
fn plan() -> Plan {
    let networks = ["198.51.100.0/24", "2001:db8:100::/48"];
    let networks = networks.map(|net| net.parse().expect("a network"));
    let api = Api {
        name: "api".into(),
        ports: PORT.to_string().parse().expect("a port"),
        protocols: Protocols::BOTH,
        deny: Deny::Drop,
        enforce: ipfilter::plan::Share::ALL,
        response: Response::default(),
        sources: AddressSet::from_networks(networks),
    };
    Plan::new(vec![api], Vec::new()).expect("a plan")
}

/// Gives a host its addresses, and a neighbour that it need not look for. It keeps fragments for a
/// second and as many as come, and remembers no half-open connection.
fn set_up(host: &Namespace, shape: Shape) {
    let mac = |bytes: [u8; 6]| bytes.map(|byte| format!("{byte:02x}")).join(":");
    let (host_mac, sender_mac, tunnel_mac) = (mac(HOST_MAC), mac(SENDER_MAC), mac(TUNNEL_MAC));
    let script = format!(
        "set -e
        cd /proc/sys/net
        echo 2 > ipv4/tcp_syncookies
        echo 0 > ipv4/ipfrag_max_dist
        echo 1 > ipv4/ipfrag_time; echo 1 > ipv6/ip6frag_time
        echo 134217728 > ipv4/ipfrag_high_thresh; echo 134217728 > ipv6/ip6frag_high_thresh
        ip link set eth0 address {host_mac}
        own=eth0
        if [ {shape:?} = Bridge ]; then
            ip link add br0 address {host_mac} type bridge
            ip link set br0 up; ip link set eth0 master br0; own=br0
        fi
        ip addr add {host4}/24 dev $own; ip addr add {host6}/64 dev $own nodad
        ip neigh replace {router4} lladdr {sender_mac} dev $own
        ip neigh replace {router6} lladdr {sender_mac} dev $own
        ip -4 route add default via {router4}; ip -6 route add default via {router6}
        if [ {shape:?} = Tunnel ]; then
            ip link add tunnel address {tunnel_mac} type vxlan id {TUNNEL_ID} dstport {TUNNEL_PORT} local {host4} nolearning
            ip link set tunnel up
        fi",
        host4 = HOST.v4,
        host6 = HOST.v6,
        router4 = ROUTER.v4,
        router6 = ROUTER.v6,
    );
    run(host.command("sh").args(["-c", &script]));
}

fn run(command: &mut Command) {
    let output = command.output().expect("it starts");
    assert!(output.status.success(), "{output:?}");
}

fn link(sender: &Namespace, name: &str, host: &Namespace) -> Link {
    thread::scope(|scope| {
        let sender = inside(scope, sender, || packet_socket(name));
        let sockets = inside(scope, host, || {
            let any = ("::", PORT);
            let udp = UdpSocket::bind(any).expect("a socket");
            udp.set_nonblocking(true).expect("a socket");
            let raw = [AddressFamily::INET, AddressFamily::INET6]
                .map(|family| socket(family, SocketType::RAW, Some(ipproto::TCP)).expect("root"));
            for socket in [udp.as_fd(), raw[0].as_fd(), raw[1].as_fd()] {
                set_socket_recv_buffer_size_force(socket, 4 << 20).expect("root");
            }
            (udp, raw, TcpListener::bind(any).expect("a socket"))
        });
        let (udp, raw, tcp) = sockets.join().expect("sockets");
        Link {
            sender: sender.join().expect("a socket"),
            udp,
            raw,
            _tcp: tcp,
        }
    })
}

/// A socket that sends whole frames, and receives none.
fn packet_socket(interface: &str) -> OwnedFd {
    try_packet_socket(interface).expect("an interface")
}

/// The same, if there is such an interface.
pub(crate) fn try_packet_socket(interface: &str) -> Option<OwnedFd> {
    let socket = socket(AddressFamily::PACKET, SocketType::RAW, None).expect("root");
    let index = name_to_index(&socket, interface).ok()?;
    let address = libc::sockaddr_ll {
        sll_family: u16::try_from(libc::AF_PACKET).expect("it is 17"),
        sll_protocol: 0,
        sll_ifindex: i32::try_from(index).expect("a few"),
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    let length = u32::try_from(size_of_val(&address)).expect("it is 20");
    // SAFETY: the address is one of the socket's family, of that length, and outlives the call.
    let done = unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length) };
    // It may be gone again.
    (done == 0).then_some(socket)
}

impl Link {
    /// Sends frames, in order.
    pub(super) fn send(&self, frames: &[Vec<u8>]) {
        let slices: Vec<_> = frames.iter().map(|frame| [IoSlice::new(frame)]).collect();
        let mut controls: Vec<_> = frames
            .iter()
            .map(|_| SendAncillaryBuffer::default())
            .collect();
        let messages = slices.iter().zip(&mut controls);
        let mut messages: Vec<_> = messages
            .map(|(slice, control)| MMsgHdr::new(slice, control))
            .collect();
        let mut sent = 0;
        while sent < messages.len() {
            match sendmmsg(&self.sender, &mut messages[sent..], SendFlags::empty()) {
                Ok(count) => sent += count,
                Err(Errno::NOBUFS | Errno::AGAIN | Errno::INTR) => thread::yield_now(),
                Err(error) => panic!("{error}: {:x?}", frames.get(sent)),
            }
        }
    }

    /// Sends a marker, and hands over whatever arrives until it does.
    pub(super) fn settle(&self, (token, frame): &(u32, Vec<u8>), see: &mut impl FnMut(Seen)) {
        let start = Instant::now();
        let mut again = start;
        loop {
            if again <= Instant::now() {
                self.send(std::slice::from_ref(frame));
                again += Duration::from_secs(1);
            }
            let mut found = false;
            self.drain(&mut |seen| {
                if seen.token == *token {
                    found = true;
                } else if seen.token >> 24 != MARKER {
                    see(seen);
                }
            });
            if found {
                return;
            }
            assert!(start.elapsed() < PATIENCE, "nothing arrives any more");
            let mut wait = [PollFd::new(&self.udp, PollFlags::IN)];
            let soon = Timespec {
                tv_sec: 0,
                tv_nsec: 10_000_000,
            };
            match poll(&mut wait, Some(&soon)) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => panic!("{error}"),
            }
        }
    }

    fn drain(&self, see: &mut impl FnMut(Seen)) {
        let mut buffer = [0; 2048];
        while let Ok((length, _)) = self.udp.recv_from(&mut buffer) {
            see(Seen {
                token: word(&buffer[..length], 0).unwrap_or(u32::MAX),
                whole: true,
                bytes: buffer[..length].to_vec(),
            });
        }
        for (socket, v4) in self.raw.iter().zip([true, false]) {
            while let Ok((length, _)) = recv(socket, &mut buffer[..], RecvFlags::DONTWAIT) {
                let bytes = &buffer[..length];
                let header = if v4 {
                    usize::from(bytes[0] & 0x0f) * 4
                } else {
                    0
                };
                if let Some(seen) = segment(&bytes[header.min(length)..]) {
                    see(seen);
                }
            }
        }
    }
}

/// A segment to the protected port.
fn segment(bytes: &[u8]) -> Option<Seen> {
    let [_, _, high, low] = *bytes.first_chunk::<4>()?;
    let offset = bytes.get(12).map_or(0, |byte| usize::from(byte >> 4) * 4);
    (u16::from_be_bytes([high, low]) == PORT).then(|| Seen {
        token: word(bytes, 4).unwrap_or(u32::MAX),
        whole: (20..=bytes.len()).contains(&offset),
        bytes: bytes.to_vec(),
    })
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..)?.first_chunk::<4>()?;
    Some(u32::from_be_bytes(*bytes))
}
