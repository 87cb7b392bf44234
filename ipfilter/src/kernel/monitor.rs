//! Hearing of interfaces that come, go, and get other names or addresses ("rtnetlink(7)").

use std::{
    collections::HashMap,
    io, iter,
    os::fd::{AsFd, BorrowedFd},
};

use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage, address::AddressScope, link::LinkAttribute,
};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};

use super::{
    error::Error,
    netlink::{self, Link},
};

/// `RTMGRP_LINK`, `RTMGRP_IPV4_IFADDR` and `RTMGRP_IPV6_IFADDR` of `linux/rtnetlink.h`: the groups of
/// messages about interfaces and addresses, as a mask.
const GROUPS: u32 = 0x1 | 0x10 | 0x100;

/// A watch over the interfaces of this network namespace. Its descriptor is readable when the kernel
/// has said something that [`Self::drain`] must be called for.
#[derive(Debug)]
pub struct Monitor {
    socket: Socket,
    /// The names of interfaces by number, the alternative ones last, to tell what is new in what the
    /// kernel says.
    names: HashMap<u32, Vec<String>>,
}

impl Monitor {
    /// Begins to watch. Interfaces that are listed after that can't change unnoticed.
    ///
    /// # Errors
    ///
    /// When the kernel does not tell of interfaces.
    pub fn new() -> Result<Self, Error> {
        let mut monitor = Self {
            socket: subscribe().map_err(failed)?,
            names: HashMap::new(),
        };
        monitor.list()?;
        Ok(monitor)
    }

    /// Takes in what the kernel has said since, without waiting for more. Tells whether interfaces
    /// have come, gone or got other names, or addresses have come or gone; also when the kernel had
    /// more to say than the socket holds, so that nobody knows.
    ///
    /// # Errors
    ///
    /// When the kernel's messages can't be read.
    pub fn drain(&mut self) -> Result<bool, Error> {
        let mut changed = false;
        loop {
            match self.socket.recv_from_full() {
                Ok((datagram, _)) => {
                    let mut messages = Vec::new();
                    netlink::read(&datagram, &mut messages).map_err(failed)?;
                    for message in messages {
                        changed |= self.take_in(message);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(changed),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {
                    changed = true;
                    self.list()?;
                }
                Err(error) => return Err(failed(error)),
            }
        }
    }

    fn list(&mut self) -> Result<(), Error> {
        let named = |link: Link| {
            let names = iter::once(link.name).chain(link.altnames);
            (link.index, names.collect())
        };
        self.names = netlink::links()?.into_iter().map(named).collect();
        Ok(())
    }

    /// Whether a message is of a change of the kind that is looked for. Bridges tell of their ports
    /// with the same messages, but of their own address family.
    fn take_in(&mut self, message: RouteNetlinkMessage) -> bool {
        match message {
            RouteNetlinkMessage::NewLink(message)
                if message.header.interface_family == AddressFamily::Unspec =>
            {
                let mut names = Vec::new();
                for attribute in message.attributes {
                    match attribute {
                        LinkAttribute::IfName(name) => names.insert(0, name),
                        LinkAttribute::PropList(list) => names.extend(netlink::altnames(list)),
                        _ => {}
                    }
                }
                // Some messages are of other things, and have no names.
                !names.is_empty() && {
                    let before = self.names.insert(message.header.index, names.clone());
                    before != Some(names)
                }
            }
            RouteNetlinkMessage::DelLink(message)
                if message.header.interface_family == AddressFamily::Unspec =>
            {
                self.names.remove(&message.header.index).is_some()
            }
            // Those of a single link come and go with it.
            RouteNetlinkMessage::NewAddress(message) | RouteNetlinkMessage::DelAddress(message) => {
                message.header.scope == AddressScope::Universe
            }
            _ => false,
        }
    }
}

impl AsFd for Monitor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn subscribe() -> io::Result<Socket> {
    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.bind(&SocketAddr::new(0, GROUPS))?;
    socket.set_non_blocking(true)?;
    Ok(socket)
}

fn failed(error: io::Error) -> Error {
    Error::io("can't watch the interfaces", error)
}
