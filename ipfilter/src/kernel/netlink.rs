//! What the kernel says of interfaces, over a netlink socket ("rtnetlink(7)").
//!
//! Asked and answered on the spot: the data plane has no event loop. The answers are those of the
//! network namespace this process is in, which `/sys/class/net` may not be.

use std::{fmt::Display, io, net::IpAddr};

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkBuffer, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::{
    RouteNetlinkMessage,
    address::{AddressAttribute, AddressMessage},
    link::{LinkAttribute, LinkLayerType, LinkMessage, LinkXdp, Prop},
};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};

use super::error::Error;

/// `RTM_BASE` of `linux/rtnetlink.h`: smaller numbers are netlink's own messages.
const FIRST_OF_ROUTING: u16 = 16;

/// An interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Link {
    pub(super) index: u32,
    pub(super) name: String,
    /// Its alternative names.
    pub(super) altnames: Vec<String>,
    /// Whether its frames begin with an Ethernet header.
    pub(super) ethernet: bool,
    /// Its hardware address, where it has one of Ethernet's length.
    pub(super) mac: Option<[u8; 6]>,
    /// The ids of the XDP programs on it.
    pub(super) xdp: Vec<u32>,
}

/// All interfaces.
pub(super) fn links() -> Result<Vec<Link>, Error> {
    let answers = ask(RouteNetlinkMessage::GetLink(LinkMessage::default()))?;
    Ok(answers.into_iter().filter_map(Link::from_answer).collect())
}

/// The addresses of the interface with that number.
pub(super) fn addresses(index: u32) -> Result<Vec<IpAddr>, Error> {
    let answers = ask(RouteNetlinkMessage::GetAddress(AddressMessage::default()))?;
    let of_it = answers.into_iter().filter_map(|answer| match answer {
        RouteNetlinkMessage::NewAddress(message) if message.header.index == index => {
            own_address(&message)
        }
        _ => None,
    });
    Ok(of_it.collect())
}

/// On a point-to-point link `IFA_ADDRESS` is the peer's address, and `IFA_LOCAL` ours; IPv6 has the
/// former only.
fn own_address(message: &AddressMessage) -> Option<IpAddr> {
    let attributes = &message.attributes;
    let local = attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Local(address) => Some(*address),
        _ => None,
    });
    local.or_else(|| {
        attributes.iter().find_map(|attribute| match attribute {
            AddressAttribute::Address(address) => Some(*address),
            _ => None,
        })
    })
}

impl Link {
    fn from_answer(answer: RouteNetlinkMessage) -> Option<Self> {
        let RouteNetlinkMessage::NewLink(message) = answer else {
            return None;
        };
        let mut link = Self {
            index: message.header.index,
            name: String::new(),
            altnames: Vec::new(),
            ethernet: message.header.link_layer_type == LinkLayerType::Ether,
            mac: None,
            xdp: Vec::new(),
        };
        for attribute in message.attributes {
            match attribute {
                LinkAttribute::IfName(name) => link.name = name,
                LinkAttribute::PropList(list) => link.altnames = altnames(list),
                LinkAttribute::Address(bytes) => link.mac = bytes.try_into().ok(),
                LinkAttribute::Xdp(about) => link.xdp = programs(&about),
                _ => {}
            }
        }
        Some(link)
    }
}

/// The alternative names among an interface's properties.
pub(super) fn altnames(list: Vec<Prop>) -> Vec<String> {
    let names = list.into_iter().filter_map(|property| match property {
        Prop::AltIfName(name) => Some(name),
        _ => None,
    });
    names.collect()
}

/// The ids by hook; kernels before 4.19 have `ProgId` alone, which later ones repeat.
fn programs(about: &[LinkXdp]) -> Vec<u32> {
    let ids = about.iter().filter_map(|attribute| match attribute {
        LinkXdp::ProgId(id)
        | LinkXdp::DrvProgId(id)
        | LinkXdp::SkbProgId(id)
        | LinkXdp::HwProgId(id) => Some(*id),
        _ => None,
    });
    let mut ids: Vec<_> = ids.filter(|id| *id != 0).collect();
    ids.sort_unstable();
    ids.dedup();
    ids
}

/// Asks for interfaces or addresses, for all there are.
fn ask(question: RouteNetlinkMessage) -> Result<Vec<RouteNetlinkMessage>, Error> {
    dump(question).map_err(|error| Error::io("can't ask the kernel for interfaces", error))
}

/// Asks for all there is of a kind.
pub(super) fn dump(question: RouteNetlinkMessage) -> io::Result<Vec<RouteNetlinkMessage>> {
    talk(question, NLM_F_DUMP)
}

/// Has the kernel do something.
pub(super) fn request(what: RouteNetlinkMessage, flags: u16) -> io::Result<()> {
    talk(what, NLM_F_ACK | flags).map(drop)
}

fn talk(question: RouteNetlinkMessage, flags: u16) -> io::Result<Vec<RouteNetlinkMessage>> {
    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    let mut message = NetlinkMessage::from(question);
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

/// Takes the answers out of a datagram, and tells whether it was the last. What this version knows
/// no form of is none of what is looked for.
pub(super) fn read(datagram: &[u8], answers: &mut Vec<RouteNetlinkMessage>) -> io::Result<bool> {
    let invalid =
        |error: &dyn Display| io::Error::new(io::ErrorKind::InvalidData, error.to_string());
    let mut rest = datagram;
    while !rest.is_empty() {
        let header = NetlinkBuffer::new_checked(rest).map_err(|error| invalid(&error))?;
        let length = (header.length() as usize).next_multiple_of(4);
        match NetlinkMessage::<RouteNetlinkMessage>::deserialize(rest) {
            Ok(message) => match message.payload {
                NetlinkPayload::Done(_) => return Ok(true),
                NetlinkPayload::Error(error) if error.code.is_none() => return Ok(true),
                NetlinkPayload::Error(error) => return Err(error.to_io()),
                NetlinkPayload::InnerMessage(answer) => answers.push(answer),
                _ => {}
            },
            Err(error) if header.message_type() < FIRST_OF_ROUTING => return Err(invalid(&error)),
            Err(_) => {}
        }
        rest = rest.get(length..).unwrap_or_default();
    }
    Ok(false)
}
