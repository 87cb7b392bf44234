//! What the kernel says of interfaces, over a netlink socket ("rtnetlink(7)").
//!
//! Asked and answered on the spot: the data plane has no event loop. The answers are those of the
//! network namespace this process is in, which `/sys/class/net` may not be.

use std::{fmt::Display, io, net::IpAddr};

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NetlinkBuffer, NetlinkMessage,
    NetlinkPayload,
};
use netlink_packet_route::{
    RouteNetlinkMessage,
    address::{AddressAttribute, AddressMessage, AddressScope},
    link::{
        InfoData, InfoIpVlan, InfoKind, IpVlanMode, LinkAttribute, LinkFlags, LinkInfo,
        LinkLayerType, LinkMessage, LinkXdp, Prop,
    },
};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};

use super::error::Error;

/// `RTM_BASE` of `linux/rtnetlink.h`: smaller numbers are netlink's own messages.
const FIRST_OF_ROUTING: u16 = 16;

/// How often a list is asked for that changes while the kernel writes it.
const ATTEMPTS: usize = 32;

/// An interface.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Link {
    pub(super) index: u32,
    pub(super) name: String,
    /// Its alternative names.
    pub(super) altnames: Vec<String>,
    pub(super) kind: LinkKind,
    pub(super) up: bool,
    /// Whether it carries only what the host sends to itself.
    pub(super) loopback: bool,
    /// Whether its frames begin with an Ethernet header.
    pub(super) ethernet: bool,
    /// Its hardware address, where it has one of Ethernet's length.
    pub(super) mac: Option<[u8; 6]>,
    /// The ids of the XDP programs on it.
    pub(super) xdp: Vec<u32>,
    /// The number of the bridge, bond or VRF that it is a port of.
    pub(super) master: Option<u32>,
    /// The number of the interface that it rests on, or is joined to, and by which of our numbers the
    /// network namespace of that goes; without a number that is this one.
    pub(super) below: Option<(u32, Option<i32>)>,
}

/// The kinds of interface that matter here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum LinkKind {
    /// One end of a pair.
    Veth,
    /// Virtual routing: packets come in by its ports, and only the host sees them here.
    Vrf,
    /// ipvlan in mode L3S: its packets are handed to the host past it.
    IpvlanL3s,
    /// A VLAN, macvlan or ipvlan: its packets are plain frames of the interface below it first.
    Stacked,
    /// Any other.
    #[default]
    Other,
}

impl Link {
    /// Whether it goes by this name.
    pub(super) fn is_called(&self, name: &str) -> bool {
        self.name == name || self.altnames.iter().any(|other| other == name)
    }
}

/// All interfaces.
pub(super) fn links() -> Result<Vec<Link>, Error> {
    let answers = ask(RouteNetlinkMessage::GetLink(LinkMessage::default()))?;
    Ok(answers.into_iter().filter_map(Link::from_answer).collect())
}

/// The interface with that number in another network namespace, by our number of that.
pub(super) fn link_in(namespace: i32, index: u32) -> Result<Option<Link>, Error> {
    let mut message = LinkMessage::default();
    message.header.index = index;
    message.attributes = vec![LinkAttribute::IfNetnsId(namespace)];
    let answers = talk(RouteNetlinkMessage::GetLink(message), NLM_F_ACK);
    let (answers, _) = answers.map_err(|error| Error::io(ASKING, error))?;
    Ok(answers.into_iter().find_map(Link::from_answer))
}

/// The addresses that others can send to, each with the number of its interface; those of a single
/// link last.
pub(super) fn addresses() -> Result<Vec<(u32, IpAddr)>, Error> {
    let answers = ask(RouteNetlinkMessage::GetAddress(AddressMessage::default()))?;
    let mut found: Vec<_> = answers
        .into_iter()
        .filter_map(|answer| match answer {
            RouteNetlinkMessage::NewAddress(message) => {
                let local = message.header.scope == AddressScope::Link;
                let address = own_address(&message).filter(|address| !address.is_loopback())?;
                Some((local, message.header.index, address))
            }
            _ => None,
        })
        .collect();
    found.sort_by_key(|(local, ..)| *local);
    Ok(found
        .into_iter()
        .map(|(_, index, address)| (index, address))
        .collect())
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
        let header = message.header;
        let mut link = Self {
            index: header.index,
            ethernet: header.link_layer_type == LinkLayerType::Ether,
            up: header.flags.contains(LinkFlags::Up),
            loopback: header.flags.contains(LinkFlags::Loopback),
            ..Self::default()
        };
        let (mut below, mut namespace) = (None, None);
        for attribute in message.attributes {
            match attribute {
                LinkAttribute::IfName(name) => link.name = name,
                LinkAttribute::PropList(list) => link.altnames = altnames(list),
                LinkAttribute::Address(bytes) => link.mac = bytes.try_into().ok(),
                LinkAttribute::Xdp(about) => link.xdp = programs(&about),
                LinkAttribute::Controller(index) => link.master = Some(index),
                LinkAttribute::Link(index) => below = Some(index).filter(|index| *index != 0),
                LinkAttribute::LinkNetNsId(id) => namespace = Some(id),
                LinkAttribute::LinkInfo(about) => link.kind = kind(&about),
                _ => {}
            }
        }
        link.below = below.map(|index| (index, namespace));
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

fn kind(about: &[LinkInfo]) -> LinkKind {
    let l3s = |data: &InfoIpVlan| matches!(data, InfoIpVlan::Mode(IpVlanMode::L3S));
    let mut kinds = about.iter().filter_map(|attribute| match attribute {
        LinkInfo::Kind(InfoKind::Veth) => Some(LinkKind::Veth),
        LinkInfo::Kind(InfoKind::Vrf) => Some(LinkKind::Vrf),
        LinkInfo::Kind(
            InfoKind::Vlan
            | InfoKind::MacVlan
            | InfoKind::MacVtap
            | InfoKind::IpVlan
            | InfoKind::IpVtap,
        ) => Some(LinkKind::Stacked),
        LinkInfo::Data(InfoData::IpVlan(data)) if data.iter().any(l3s) => Some(LinkKind::IpvlanL3s),
        _ => None,
    });
    kinds.next_back().unwrap_or_default()
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

const ASKING: &str = "can't ask the kernel for interfaces";

/// Asks for interfaces or addresses, for all there are.
fn ask(question: RouteNetlinkMessage) -> Result<Vec<RouteNetlinkMessage>, Error> {
    dump(question).map_err(|error| Error::io(ASKING, error))
}

/// Asks for all there is of a kind.
#[expect(
    clippy::needless_pass_by_value,
    reason = "a question is made to be asked"
)]
pub(super) fn dump(question: RouteNetlinkMessage) -> io::Result<Vec<RouteNetlinkMessage>> {
    whole(|| talk(question.clone(), NLM_F_DUMP))
}

/// What `list` gives, once nothing changed while it was listed: until then something may be missing.
fn whole<T>(mut list: impl FnMut() -> io::Result<(T, bool)>) -> io::Result<T> {
    for _ in 0..ATTEMPTS {
        if let (listed, false) = list()? {
            return Ok(listed);
        }
    }
    Err(io::Error::other("they change too often to be listed"))
}

/// Has the kernel do something.
pub(super) fn request(what: RouteNetlinkMessage, flags: u16) -> io::Result<()> {
    talk(what, NLM_F_ACK | flags).map(drop)
}

/// The answers, and whether something changed while the kernel gave them.
fn talk(question: RouteNetlinkMessage, flags: u16) -> io::Result<(Vec<RouteNetlinkMessage>, bool)> {
    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    let mut message = NetlinkMessage::from(question);
    message.header.flags = NLM_F_REQUEST | flags;
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    socket.send(&bytes, 0)?;
    let (mut answers, mut changed) = (Vec::new(), false);
    loop {
        let (datagram, _) = socket.recv_from_full()?;
        let read = read(&datagram, &mut answers)?;
        changed |= read.changed;
        if read.last {
            return Ok((answers, changed));
        }
    }
}

/// What a datagram is besides its answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Read {
    /// No other follows.
    last: bool,
    /// What is listed changed meanwhile, so that the list may lack something.
    changed: bool,
}

/// Takes the answers out of a datagram. What this version knows no form of is none of what is looked
/// for.
pub(super) fn read(datagram: &[u8], answers: &mut Vec<RouteNetlinkMessage>) -> io::Result<Read> {
    let invalid =
        |error: &dyn Display| io::Error::new(io::ErrorKind::InvalidData, error.to_string());
    let mut read = Read::default();
    let mut rest = datagram;
    while !rest.is_empty() && !read.last {
        let header = NetlinkBuffer::new_checked(rest).map_err(|error| invalid(&error))?;
        let length = (header.length() as usize).next_multiple_of(4);
        read.changed |= header.flags() & NLM_F_DUMP_INTR != 0;
        match NetlinkMessage::<RouteNetlinkMessage>::deserialize(rest) {
            Ok(message) => match message.payload {
                NetlinkPayload::Done(_) => read.last = true,
                NetlinkPayload::Error(error) if error.code.is_none() => read.last = true,
                NetlinkPayload::Error(error) => return Err(error.to_io()),
                NetlinkPayload::InnerMessage(answer) => answers.push(answer),
                _ => {}
            },
            Err(error) if header.message_type() < FIRST_OF_ROUTING => return Err(invalid(&error)),
            Err(_) => {}
        }
        rest = rest.get(length..).unwrap_or_default();
    }
    Ok(read)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_that_changes_meanwhile_is_asked_for_again() {
        let mut times = 0;
        let listed = whole(|| {
            times += 1;
            Ok((times, times < 3))
        });
        assert_eq!(listed.unwrap(), 3);
        assert!(whole(|| Ok(((), true))).is_err());
    }

    #[test]
    fn the_kernel_says_when_a_list_changed() {
        let question = RouteNetlinkMessage::GetLink(LinkMessage::default());
        for flags in [0, NLM_F_DUMP_INTR] {
            let mut message = NetlinkMessage::from(question.clone());
            message.header.flags = flags;
            message.finalize();
            let mut bytes = vec![0; message.buffer_len()];
            message.serialize(&mut bytes);
            let read = read(&bytes, &mut Vec::new()).unwrap();
            assert_eq!((read.last, read.changed), (false, flags != 0));
        }
    }
}
