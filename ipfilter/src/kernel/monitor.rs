//! Notifications of interfaces that appear, disappear, or change names or addresses (rtnetlink(7)).

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

/// Watches the interfaces of this network namespace. When its descriptor is readable, call [`Self::drain`].
#[derive(Debug)]
pub struct Monitor {
    socket: Socket,
    /// The names of interfaces by number, alternative names last, to find out what a message changes.
    names: HashMap<u32, Vec<String>>,
}

impl Monitor {
    /// Begins to watch. Changes to interfaces that are listed after this call are noticed.
    ///
    /// # Errors
    ///
    /// When the kernel refuses the subscription.
    pub fn new() -> Result<Self, Error> {
        let mut monitor = Self {
            socket: subscribe().map_err(failed)?,
            names: HashMap::new(),
        };
        monitor.list()?;
        Ok(monitor)
    }

    /// Reads all pending messages without waiting. Returns whether interfaces or addresses were added,
    /// removed or renamed, or may have been because messages were lost.
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

    /// Whether a message announces such a change. Bridges announce their ports with the same messages, but of
    /// another address family.
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
