//! By which interfaces packets come in that no filter sees.

use super::{
    error::Error,
    interface::Interface,
    netlink::{self, Link, LinkKind},
};

/// How many interfaces may rest on each other; more than the kernel allows.
const DEPTH: usize = 16;

/// The interfaces that are up and by which packets reach this host past the filter, which is attached
/// to these interfaces. None of them is the loopback.
///
/// # Errors
///
/// When the kernel does not list the interfaces.
pub fn unfiltered(filtered: &[Interface]) -> Result<Vec<Interface>, Error> {
    let links = netlink::links()?;
    // One that was moved away may have the number of another here.
    let here = filtered.iter().filter(|interface| {
        let mut links = links.iter();
        links.any(|link| link.index == interface.index && link.is_called(&interface.name))
    });
    let here: Vec<_> = here.map(|interface| interface.index).collect();
    Ok(entrances(&links, &here))
}

fn entrances(links: &[Link], filtered: &[u32]) -> Vec<Interface> {
    let open = links.iter().filter(|link| {
        link.up
            && !link.loopback
            && link.kind != LinkKind::Vrf
            && !hands_on(link, links)
            && !is_seen(link, links, filtered, DEPTH)
    });
    open.map(Interface::from).collect()
}

/// Whether what comes in goes to a bridge or bond, which hands it to the host. A VRF leaves it where
/// it came in.
fn hands_on(link: &Link, links: &[Link]) -> bool {
    let master = links.iter().find(|other| Some(other.index) == link.master);
    master.is_some_and(|master| master.kind != LinkKind::Vrf)
}

/// Whether a filter sees all that comes in here: at this interface, at each port of it, or at the
/// interface below.
fn is_seen(link: &Link, links: &[Link], filtered: &[u32], depth: usize) -> bool {
    let Some(depth) = depth.checked_sub(1) else {
        return false;
    };
    if filtered.contains(&link.index) {
        return true;
    }
    let mut ports = links
        .iter()
        .filter(|port| port.up && port.master == Some(link.index))
        .peekable();
    if ports.peek().is_some() {
        return ports.all(|port| is_seen(port, links, filtered, depth));
    }
    match (link.kind, link.below) {
        (LinkKind::Stacked, Some((index, None))) => {
            let below = links.iter().find(|other| other.index == index);
            below.is_some_and(|below| is_seen(below, links, filtered, depth))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(index: u32, name: &str) -> Link {
        Link {
            index,
            name: name.into(),
            up: true,
            ..Link::default()
        }
    }

    /// A host with a bond of two cards, a VLAN on it, a bridge of containers, a tunnel and a VPN.
    fn host() -> Vec<Link> {
        let port = |index, name, master| Link {
            master: Some(master),
            ..link(index, name)
        };
        let on = |index, name, below, kind| Link {
            below: Some((below, None)),
            kind,
            ..link(index, name)
        };
        vec![
            Link {
                loopback: true,
                ..link(1, "lo")
            },
            port(2, "eth0", 4),
            port(3, "eth1", 4),
            link(4, "bond0"),
            on(5, "bond0.7", 4, LinkKind::Stacked),
            link(6, "docker0"),
            port(7, "veth1", 6),
            on(8, "gre1", 4, LinkKind::Other),
            link(9, "wg0"),
            Link {
                up: false,
                ..link(10, "eth9")
            },
            Link {
                kind: LinkKind::Vrf,
                ..link(11, "vrf0")
            },
            port(12, "eth2", 11),
            // A container's interface that rests on one of another network namespace.
            Link {
                below: Some((4, Some(0))),
                kind: LinkKind::Stacked,
                ..link(13, "macvlan0")
            },
        ]
    }

    #[test]
    fn whatever_no_filter_sees_is_an_entrance() {
        for (filtered, open) in [
            (&[][..], "bond0 bond0.7 docker0 gre1 wg0 eth2 macvlan0"),
            (&[2], "bond0 bond0.7 docker0 gre1 wg0 eth2 macvlan0"),
            (&[2, 3], "docker0 gre1 wg0 eth2 macvlan0"),
            (&[4], "docker0 gre1 wg0 eth2 macvlan0"),
            (&[5, 6], "bond0 gre1 wg0 eth2 macvlan0"),
            (&[4, 7, 8, 9, 12, 13], ""),
        ] {
            let names = entrances(&host(), filtered).into_iter();
            let names: Vec<_> = names.map(|interface| interface.name).collect();
            assert_eq!(names.join(" "), open, "{filtered:?}");
        }
    }
}
