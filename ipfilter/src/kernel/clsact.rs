//! Traffic control where there are no tcx links yet: filters of the clsact queueing discipline, over
//! netlink ("tc-bpf(8)", `net/sched/cls_bpf.c`).
//!
//! Such a filter belongs to the interface: no process holds it, and nothing can be pinned. So it is
//! recognised by its name, which is the instance's.

use std::{
    io,
    os::fd::{AsFd, AsRawFd as _, BorrowedFd},
};

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::{
    RouteNetlinkMessage,
    tc::{
        TcAttribute, TcBpfFlags, TcFilterBpf, TcFilterBpfOption, TcHandle, TcHeader, TcMessage,
        TcOption,
    },
};

use super::{
    netlink::{dump, request},
    sys,
};

/// Where packets come in; and the qdisc's own handle, and where they leave.
const INGRESS: TcHandle = parent(TcHandle::MIN_INGRESS);
const EGRESS: TcHandle = parent(TcHandle::MIN_EGRESS);
const QDISC: TcHandle = TcHandle {
    major: u16::MAX,
    minor: 0,
};

/// The kinds of queueing discipline that have filters at ingress: ours, and its predecessor.
const QDISCS: [&str; 2] = ["clsact", "ingress"];

/// `ETH_P_ALL` of `linux/if_ether.h`: packets of every protocol.
const ALL_PROTOCOLS: u16 = 3;

/// What follows the instance in the name of a filter whose queueing discipline was made for it.
const MADE: &str = ":qdisc";

const fn parent(minor: u16) -> TcHandle {
    TcHandle {
        major: u16::MAX,
        minor,
    }
}

/// A filter of an instance at an interface's ingress.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Filter {
    pub(super) index: u32,
    /// Its priority and its handle: one of the kernel's choice, and kept.
    priority: u16,
    handle: TcHandle,
    name: String,
    /// The id of its program.
    pub(super) program: u32,
}

/// The filters of `instance` in this network namespace.
pub(super) fn all(instance: &str) -> io::Result<Vec<Filter>> {
    let mut indices: Vec<u32> =
        dump(RouteNetlinkMessage::GetQueueDiscipline(TcMessage::default()))?
            .into_iter()
            .filter_map(|answer| match answer {
                RouteNetlinkMessage::NewQueueDiscipline(message) => {
                    let kind = message.attributes.iter().find_map(kind);
                    let known = kind.is_some_and(|kind| QDISCS.contains(&kind));
                    known.then_some(message.header.index.cast_unsigned())
                }
                _ => None,
            })
            .collect();
    indices.sort_unstable();
    indices.dedup();
    let mut found = Vec::new();
    for index in indices {
        let filters = filters(index, INGRESS)?.into_iter();
        found.extend(filters.filter(|filter| filter.is_of(instance)));
    }
    Ok(found)
}

/// Has `program` see what comes in at the interface with number `index`, before the filters that
/// are there already. They, and their queueing discipline, stay; where there is none, it is made.
pub(super) fn add(program: impl AsFd, index: u32, instance: &str) -> io::Result<Filter> {
    let (_, id) = sys::identity(&program)?;
    let made = make_qdisc(index)?;
    let name = format!("{}{}", name(instance), if made { MADE } else { "" });
    // Neither priority nor handle: the kernel chooses them, the priority before all others.
    let message = message(index, 0, TcHandle::UNSPEC, program.as_fd(), &name);
    let added = request(
        RouteNetlinkMessage::NewTrafficFilter(message),
        NLM_F_CREATE | NLM_F_EXCL,
    )
    .and_then(|()| {
        let mut filters = filters(index, INGRESS)?.into_iter();
        let found = filters.find(|filter| filter.name == name && filter.program == id);
        found.ok_or_else(|| io::Error::other("the kernel does not show the filter it was given"))
    });
    if added.is_err() && made {
        delete_qdisc(index)?;
    }
    added
}

impl Filter {
    fn is_of(&self, instance: &str) -> bool {
        self.name
            .strip_prefix(&name(instance))
            .is_some_and(|rest| rest.is_empty() || rest == MADE)
    }

    /// The same as it is now; nothing if it is not there any more.
    pub(super) fn now(&self) -> io::Result<Option<Self>> {
        let present = match filters(self.index, INGRESS) {
            // No such interface, or no queueing discipline.
            Err(error) if is_gone(&error) => return Ok(None),
            present => present?,
        };
        let same = |other: &Self| {
            (other.priority, other.handle, &other.name) == (self.priority, self.handle, &self.name)
        };
        Ok(present.into_iter().find(same))
    }

    /// Puts another program into the filter, atomically.
    pub(super) fn replace(&self, program: impl AsFd) -> io::Result<()> {
        let program = program.as_fd();
        let message = message(self.index, self.priority, self.handle, program, &self.name);
        request(RouteNetlinkMessage::NewTrafficFilter(message), 0)
    }

    /// Removes the filter, if it is there; and its queueing discipline, if that was made for it and
    /// nobody else uses it.
    pub(super) fn remove(&self) -> io::Result<()> {
        if self.now()?.is_none() {
            return Ok(());
        }
        let header = header(self.index, self.priority, self.handle);
        let kind = TcAttribute::Kind(TcFilterBpf::KIND.to_owned());
        let message = TcMessage::from_parts(header, vec![kind]);
        request(RouteNetlinkMessage::DelTrafficFilter(message), 0)?;
        if self.name.ends_with(MADE) && self.was_last()? {
            delete_qdisc(self.index)?;
        }
        Ok(())
    }

    /// Whether the queueing discipline has no filter of any kind left.
    fn was_last(&self) -> io::Result<bool> {
        for parent in [INGRESS, EGRESS] {
            if !dump_filters(self.index, parent)?.is_empty() {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

fn name(instance: &str) -> String {
    format!("ipfilter:{instance}")
}

/// Tells whether there was none.
fn make_qdisc(index: u32) -> io::Result<bool> {
    let message = qdisc(index);
    match request(
        RouteNetlinkMessage::NewQueueDiscipline(message),
        NLM_F_CREATE | NLM_F_EXCL,
    ) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        result => result.map(|()| true),
    }
}

fn delete_qdisc(index: u32) -> io::Result<()> {
    request(RouteNetlinkMessage::DelQueueDiscipline(qdisc(index)), 0)
}

fn qdisc(index: u32) -> TcMessage {
    let header = TcHeader {
        index: index.cast_signed(),
        handle: QDISC,
        parent: TcHandle::CLSACT,
        ..TcHeader::default()
    };
    let kind = TcAttribute::Kind("clsact".to_owned());
    TcMessage::from_parts(header, vec![kind])
}

fn header(index: u32, priority: u16, handle: TcHandle) -> TcHeader {
    TcHeader {
        index: index.cast_signed(),
        handle,
        parent: INGRESS,
        info: u32::from(priority) << 16 | u32::from(ALL_PROTOCOLS.to_be()),
        ..TcHeader::default()
    }
}

fn message(
    index: u32,
    priority: u16,
    handle: TcHandle,
    program: BorrowedFd<'_>,
    name: &str,
) -> TcMessage {
    let options = [
        TcFilterBpfOption::ProgFd(program.as_raw_fd().cast_unsigned()),
        TcFilterBpfOption::ProgName(name.to_owned()),
        TcFilterBpfOption::Flags(TcBpfFlags::DirectAction),
    ];
    let options = options.map(TcOption::Bpf).into();
    TcMessage::from_parts(
        header(index, priority, handle),
        vec![
            TcAttribute::Kind(TcFilterBpf::KIND.to_owned()),
            TcAttribute::Options(options),
        ],
    )
}

/// The BPF filters at `parent`.
fn filters(index: u32, parent: TcHandle) -> io::Result<Vec<Filter>> {
    let found = dump_filters(index, parent)?.into_iter();
    Ok(found.filter_map(Filter::from_message).collect())
}

/// The filters of all kinds at `parent`; what they have in common comes as a message of its own.
fn dump_filters(index: u32, parent: TcHandle) -> io::Result<Vec<TcMessage>> {
    let header = TcHeader {
        index: index.cast_signed(),
        parent,
        ..TcHeader::default()
    };
    let message = TcMessage::from_parts(header, Vec::new());
    let answers = dump(RouteNetlinkMessage::GetTrafficFilter(message))?;
    let filters = answers.into_iter().filter_map(|answer| match answer {
        RouteNetlinkMessage::NewTrafficFilter(message) => Some(message),
        _ => None,
    });
    Ok(filters.collect())
}

impl Filter {
    fn from_message(message: TcMessage) -> Option<Self> {
        let (header, attributes) = message.into_parts();
        let (mut name, mut program) = (None, None);
        for attribute in attributes {
            let TcAttribute::Options(options) = attribute else {
                continue;
            };
            for option in options {
                match option {
                    TcOption::Bpf(TcFilterBpfOption::ProgName(found)) => name = Some(found),
                    TcOption::Bpf(TcFilterBpfOption::ProgId(found)) => program = Some(found),
                    _ => {}
                }
            }
        }
        Some(Self {
            index: header.index.cast_unsigned(),
            priority: u16::try_from(header.info >> 16).ok()?,
            handle: header.handle,
            name: name?,
            program: program?,
        })
    }
}

fn kind(attribute: &TcAttribute) -> Option<&str> {
    match attribute {
        TcAttribute::Kind(kind) => Some(kind),
        _ => None,
    }
}

fn is_gone(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::ENODEV | libc::ENOENT | libc::EINVAL)
    )
}
