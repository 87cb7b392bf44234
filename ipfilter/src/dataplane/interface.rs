//! Interfaces, by name and by pattern.

use std::os::fd::OwnedFd;

use aya::programs::loaded_programs;
use rustix::net::{AddressFamily, SocketType, netdevice::index_to_name};
use wildmatch::WildMatch;

use super::{
    error::Error,
    netlink::{self, Link},
};

/// A network interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Its number.
    pub index: u32,
}

impl Interface {
    /// The interfaces that `wanted` names, each once: names, or patterns in which `*` stands for any
    /// characters and `?` for one. A pattern matches Ethernet interfaces only, and thus never the
    /// loopback.
    ///
    /// # Errors
    ///
    /// When a name or a pattern matches none, or a name is that of an interface without Ethernet.
    pub fn matching(wanted: &[String]) -> Result<Vec<Self>, Error> {
        choose(wanted, &netlink::links()?)
    }

    /// The interface with that number, under the name it has now.
    #[must_use]
    pub fn numbered(index: u32) -> Option<Self> {
        let name = index_to_name(any_socket().ok()?, index).ok()?;
        Some(Self { name, index })
    }
}

/// The kernel is asked about interfaces through a socket, whichever.
fn any_socket() -> Result<OwnedFd, Error> {
    rustix::net::socket(AddressFamily::UNIX, SocketType::DGRAM, None)
        .map_err(|errno| Error::io("can't ask for interfaces", errno.into()))
}

fn choose(wanted: &[String], links: &[Link]) -> Result<Vec<Interface>, Error> {
    let mut chosen: Vec<Interface> = Vec::new();
    for name in wanted {
        for link in one_or_more(name, links)? {
            if !chosen.iter().any(|interface| interface.index == link.index) {
                chosen.push(Interface {
                    name: link.name.clone(),
                    index: link.index,
                });
            }
        }
    }
    Ok(chosen)
}

/// What one name or pattern stands for.
fn one_or_more<'a>(name: &str, links: &'a [Link]) -> Result<Vec<&'a Link>, Error> {
    // An interface may itself be called `a*`: the name comes before the pattern.
    if let Some(link) = links.iter().find(|link| link.name == name) {
        if !link.ethernet {
            return Err(Error::Refused(format!(
                "`{name}` is not an Ethernet interface: filter the interface its packets arrive by \
                 instead"
            )));
        }
        return Ok(vec![link]);
    }
    let ethernet = || links.iter().filter(|link| link.ethernet);
    let pattern = WildMatch::new(name);
    let matching: Vec<_> = ethernet()
        .filter(|link| pattern.matches(&link.name))
        .collect();
    if matching.is_empty() {
        let there: Vec<_> = ethernet().map(|link| format!("`{}`", link.name)).collect();
        return Err(Error::failed(
            format!("no interface `{name}`"),
            match there.as_slice() {
                [] => "there is no Ethernet interface at all".to_owned(),
                _ => format!("there are {}", there.join(", ")),
            },
        ));
    }
    Ok(matching)
}

/// The XDP programs on the interface with that number, for a reader: the names that programs have
/// are their owners'.
pub(super) fn xdp_programs(index: u32) -> Option<String> {
    let links = netlink::links().ok()?;
    let link = links.into_iter().find(|link| link.index == index)?;
    let told: Vec<_> = link.xdp.into_iter().map(program).collect();
    (!told.is_empty()).then(|| told.join(" and "))
}

fn program(id: u32) -> String {
    let mut programs = loaded_programs().flatten();
    let info = programs.find(|info| info.id() == id);
    match info.as_ref().and_then(|info| info.name_as_str()) {
        Some(name) if !name.is_empty() => format!("`{name}` (program {id})"),
        _ => format!("program {id}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn links() -> Vec<Link> {
        let link = |(index, name, ethernet): (u32, &str, bool)| Link {
            index,
            name: name.into(),
            ethernet,
            mac: None,
            xdp: Vec::new(),
        };
        [
            (1, "lo", false),
            (2, "eth0", true),
            (3, "eth1", true),
            (4, "ens5", true),
            (5, "wg0", false),
            (6, "e*", true),
        ]
        .map(link)
        .into()
    }

    fn chosen(wanted: &[&str]) -> Result<String, String> {
        let wanted: Vec<_> = wanted.iter().map(|name| (*name).to_owned()).collect();
        let chosen = choose(&wanted, &links()).map_err(|error| error.to_string())?;
        let names: Vec<_> = chosen.into_iter().map(|interface| interface.name).collect();
        Ok(names.join(" "))
    }

    #[test]
    fn names_and_patterns_choose_each_interface_once() {
        for (wanted, names) in [
            (&["eth1"][..], "eth1"),
            (&["eth*"], "eth0 eth1"),
            (&["ens?", "eth1", "eth*"], "ens5 eth1 eth0"),
            (&["e*"], "e*"),
            (&["*"], "eth0 eth1 ens5 e*"),
        ] {
            assert_eq!(chosen(wanted).as_deref(), Ok(names), "{wanted:?}");
        }
    }

    #[test]
    fn what_is_not_there_or_not_ethernet_is_refused() {
        let there = "there are `eth0`, `eth1`, `ens5`, `e*`";
        for (wanted, message) in [
            ("eth2", format!("no interface `eth2`: {there}")),
            ("wlan*", format!("no interface `wlan*`: {there}")),
            ("l?", format!("no interface `l?`: {there}")),
            (
                "wg0",
                "`wg0` is not an Ethernet interface: filter the interface its packets arrive by \
                 instead"
                    .to_owned(),
            ),
        ] {
            assert_eq!(chosen(&["eth0", wanted]), Err(message));
        }
    }

    #[test]
    fn this_machine_has_a_loopback_that_no_pattern_matches() {
        let links = netlink::links().unwrap();
        let loopback = links.iter().find(|link| link.name == "lo").unwrap();
        assert_eq!((loopback.index, loopback.ethernet), (1, false));
        assert!(
            netlink::addresses(1)
                .unwrap()
                .iter()
                .all(std::net::IpAddr::is_loopback)
        );
        assert!(Interface::matching(&["lo*".to_owned()]).is_err());
        assert_eq!(Interface::numbered(1).unwrap().name, "lo");
    }
}
