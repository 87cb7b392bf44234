//! The sockets of this network namespace, by "sock_diag(7)": who is connected, closing connections, and
//! who listens.

use std::{
    io,
    net::{IpAddr, SocketAddr},
};

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkBuffer, NetlinkDeserializable, NetlinkHeader,
    NetlinkMessage, NetlinkPayload, NetlinkSerializable,
};
use netlink_packet_sock_diag::{
    SockDiagDestroy, SockDiagMessage,
    constants::{AF_INET, AF_INET6, IPPROTO_TCP, IPPROTO_UDP},
    inet::{ExtensionFlags, InetRequest, InetResponse, SocketId, StateFlags, nlas::Nla},
};
use netlink_sys::{Socket, SocketAddr as Address, protocols::NETLINK_SOCK_DIAG};

use super::error::Error;
use crate::plan::Protocol;

/// A connection, as long as it is there.
#[derive(Clone, Debug)]
pub struct Connection {
    family: u8,
    id: SocketId,
    inode: u32,
}

impl Connection {
    /// Our end.
    #[must_use]
    pub fn local(&self) -> SocketAddr {
        SocketAddr::new(self.id.source_address.to_canonical(), self.id.source_port)
    }

    /// The inode of our end's socket, by which processes hold it; 0 if none does.
    #[must_use]
    pub fn inode(&self) -> u32 {
        self.inode
    }

    /// The other end.
    #[must_use]
    pub fn peer(&self) -> SocketAddr {
        let address = self.id.destination_address.to_canonical();
        SocketAddr::new(address, self.id.destination_port)
    }
}

/// The TCP connections that were accepted here, or are about to be.
///
/// # Errors
///
/// When the kernel does not list them.
pub fn connections() -> Result<Vec<Connection>, Error> {
    let states = StateFlags::ESTABLISHED
        | StateFlags::SYN_RECV
        | StateFlags::FIN_WAIT1
        | StateFlags::FIN_WAIT2
        | StateFlags::CLOSE_WAIT
        | StateFlags::CLOSING
        | StateFlags::LAST_ACK;
    let listed = list(Protocol::Tcp, &states)
        .map_err(|error| Error::io("connections can't be listed", error))?;
    let connections = listed.into_iter().map(|answer| Connection {
        family: answer.header.family,
        id: answer.header.socket_id,
        inode: answer.header.inode,
    });
    Ok(connections.collect())
}

/// A socket that takes in what strangers send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// Its protocol.
    pub protocol: Protocol,
    /// The address that it is bound to; the unspecified one for all.
    pub address: IpAddr,
    /// Its port.
    pub port: u16,
    /// The number of the only interface that it listens at, if it is bound to one.
    pub interface: Option<u32>,
    /// Whether it takes in IPv6 only, though it is bound to all addresses.
    pub only_v6: bool,
}

impl Listener {
    /// Whether it takes in what is sent to this address of the host.
    #[must_use]
    pub fn is_reached_at(&self, address: IpAddr) -> bool {
        if !self.address.is_unspecified() {
            return self.address == address;
        }
        address.is_ipv6() == self.address.is_ipv6() || (address.is_ipv4() && !self.only_v6)
    }
}

/// The sockets that listen here: TCP's, and those of UDP without a peer.
///
/// # Errors
///
/// When the kernel does not list them.
pub fn listeners() -> Result<Vec<Listener>, Error> {
    let mut listeners = Vec::new();
    // A UDP socket without a peer is in no other state.
    for (protocol, states) in [
        (Protocol::Tcp, StateFlags::LISTEN),
        (Protocol::Udp, StateFlags::CLOSE),
    ] {
        let listed = list(protocol, &states)
            .map_err(|error| Error::io("listening sockets can't be listed", error))?;
        listeners.extend(listed.into_iter().map(|answer| {
            let id = answer.header.socket_id;
            Listener {
                protocol,
                address: id.source_address.to_canonical(),
                port: id.source_port,
                interface: Some(id.interface_id).filter(|index| *index != 0),
                only_v6: answer.nlas.contains(&Nla::SkV6Only(true)),
            }
        }));
    }
    // One that is bound to no port takes in nothing.
    listeners.retain(|listener| listener.port != 0);
    Ok(listeners)
}

/// Closes connections at once: both ends get a reset. Returns how many were closed; those that have ended
/// meanwhile are none of them.
///
/// # Errors
///
/// When the kernel can't, or does not.
pub fn destroy<'a>(connections: impl Iterator<Item = &'a Connection>) -> Result<usize, Error> {
    const WHAT: &str = "connections can't be closed";
    let socket = open().map_err(|error| Error::io(WHAT, error))?;
    let mut closed = 0;
    for connection in connections {
        let request = request(
            connection.family,
            Protocol::Tcp,
            StateFlags::empty(),
            connection.id.clone(),
        );
        let request = SockDiagDestroy::new(SockDiagMessage::InetRequest(request));
        match talk::<_, SockDiagMessage>(&socket, request, NLM_F_ACK) {
            Ok(_) => closed += 1,
            // It has ended by itself.
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {}
            Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => {
                return Err(Error::Refused(format!(
                    "{WHAT}: this kernel is built without CONFIG_INET_DIAG_DESTROY; restart the API to \
                     close them"
                )));
            }
            Err(error) => return Err(Error::io(WHAT, error)),
        }
    }
    Ok(closed)
}

/// All sockets of a protocol in these states, of both families.
fn list(protocol: Protocol, states: &StateFlags) -> io::Result<Vec<InetResponse>> {
    let socket = open()?;
    let mut all = Vec::new();
    for (family, any) in [
        (AF_INET, SocketId::new_v4()),
        (AF_INET6, SocketId::new_v6()),
    ] {
        let request = SockDiagMessage::InetRequest(request(family, protocol, states.clone(), any));
        for answer in talk::<_, SockDiagMessage>(&socket, request, NLM_F_DUMP)? {
            if let SockDiagMessage::InetResponse(answer) = answer {
                all.push(*answer);
            }
        }
    }
    Ok(all)
}

fn request(family: u8, protocol: Protocol, states: StateFlags, socket_id: SocketId) -> InetRequest {
    InetRequest {
        family,
        protocol: match protocol {
            Protocol::Tcp => IPPROTO_TCP,
            Protocol::Udp => IPPROTO_UDP,
        },
        extensions: ExtensionFlags::empty(),
        states,
        socket_id,
    }
}

fn open() -> io::Result<Socket> {
    let mut socket = Socket::new(NETLINK_SOCK_DIAG)?;
    socket.bind_auto()?;
    socket.connect(&Address::new(0, 0))?;
    Ok(socket)
}

/// Asks one thing, and returns all answers.
fn talk<Q, A>(socket: &Socket, question: Q, flags: u16) -> io::Result<Vec<A>>
where
    Q: NetlinkSerializable,
    A: NetlinkDeserializable,
{
    let payload = NetlinkPayload::InnerMessage(question);
    let mut message = NetlinkMessage::new(NetlinkHeader::default(), payload);
    message.header.flags = NLM_F_REQUEST | flags;
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    socket.send(&bytes, 0)?;
    let mut answers = Vec::new();
    loop {
        let (datagram, _) = socket.recv_from_full()?;
        if read(&datagram, &mut answers)? {
            return Ok(answers);
        }
    }
}

/// Takes the answers out of a datagram, and tells whether it was the last.
fn read<A: NetlinkDeserializable>(datagram: &[u8], answers: &mut Vec<A>) -> io::Result<bool> {
    let invalid = |error| io::Error::new(io::ErrorKind::InvalidData, format!("{error}"));
    let mut rest = datagram;
    while !rest.is_empty() {
        let header = NetlinkBuffer::new_checked(rest).map_err(invalid)?;
        let length = (header.length() as usize).next_multiple_of(4);
        let message = NetlinkMessage::<A>::deserialize(rest).map_err(invalid)?;
        match message.payload {
            NetlinkPayload::Done(_) => return Ok(true),
            NetlinkPayload::Error(error) if error.code.is_none() => return Ok(true),
            NetlinkPayload::Error(error) => return Err(error.to_io()),
            NetlinkPayload::InnerMessage(answer) => answers.push(answer),
            _ => {}
        }
        rest = rest.get(length..).unwrap_or_default();
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream, UdpSocket};

    use super::*;

    #[test]
    fn connections_of_both_families_are_found() {
        for (text, to) in [
            ("127.0.0.1:0", "127.0.0.1"),
            ("[::1]:0", "::1"),
            // An IPv4 connection of an IPv6 socket.
            ("[::]:0", "127.0.0.1"),
        ] {
            let listener = TcpListener::bind(text).unwrap();
            let port = listener.local_addr().unwrap().port();
            let to = SocketAddr::new(to.parse().unwrap(), port);
            let client = TcpStream::connect(to).unwrap();
            let _accepted = listener.accept().unwrap();
            let from = client.local_addr().unwrap();
            let is_it = |it: &Connection| it.local() == to && it.peer() == from;
            assert!(connections().unwrap().iter().any(is_it), "{text}");
        }
    }
    #[test]
    fn listeners_of_both_protocols_are_found_with_the_families_that_they_take() {
        let [v4, v6] = ["192.0.2.2", "2001:db8::2"].map(|text| text.parse::<IpAddr>().unwrap());
        for (text, takes) in [
            ("0.0.0.0:0", [true, false]),
            ("[::]:0", [true, true]),
            ("127.0.0.1:0", [false, false]),
        ] {
            let tcp = TcpListener::bind(text).unwrap();
            let udp = UdpSocket::bind(text).unwrap();
            for (protocol, bound) in [
                (Protocol::Tcp, tcp.local_addr().unwrap()),
                (Protocol::Udp, udp.local_addr().unwrap()),
            ] {
                let listeners = listeners().unwrap();
                let is_it = |it: &&Listener| {
                    (it.protocol, it.address, it.port) == (protocol, bound.ip(), bound.port())
                };
                let found = listeners.iter().find(is_it).unwrap();
                assert_eq!([v4, v6].map(|to| found.is_reached_at(to)), takes, "{text}");
                assert_eq!(found.interface, None);
            }
        }
    }

    #[test]
    fn a_socket_of_ipv6_alone_is_not_reached_over_ipv4() {
        let listener = |only_v6| Listener {
            protocol: Protocol::Tcp,
            address: "::".parse().unwrap(),
            port: 80,
            interface: None,
            only_v6,
        };
        let v4 = "192.0.2.2".parse().unwrap();
        assert!(listener(false).is_reached_at(v4));
        assert!(!listener(true).is_reached_at(v4));
    }
}
