//! Interfaces, by name and by pattern.

use std::{fmt::Display, net::IpAddr};

use aya::programs::loaded_programs;
use serde::{Deserialize, Serialize};
use wildmatch::WildMatch;

use super::{
    error::Error,
    netlink::{self, Link, LinkKind},
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
    /// The interfaces that `wanted` names, each once: names, alternative names, or patterns of names in
    /// which `*` stands for any characters and `?` for one. An interface that was `bound` to one of them before is meant
    /// whatever it is called now. A pattern matches Ethernet interfaces only, and thus never the
    /// loopback.
    ///
    /// # Errors
    ///
    /// When a name is that of an interface at which no filter sees anything, or the kernel does not
    /// tell.
    pub fn matching(wanted: &[String], bound: &[Bound]) -> Result<Matched, Error> {
        let links = netlink::links()?;
        let mut matched = choose(wanted, &links)?;
        matched.keep_renamed(wanted, bound, &links);
        Ok(matched)
    }
}

impl From<&Link> for Interface {
    fn from(link: &Link) -> Self {
        Self {
            name: link.name.clone(),
            index: link.index,
        }
    }
}

/// The interfaces that names, patterns and addresses match.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Matched {
    /// The interfaces that are there.
    pub interfaces: Vec<Interface>,
    /// The names and patterns of which none is there (yet), and addresses that the host lacks.
    pub missing: Vec<String>,
    /// Interfaces that are meant though they are called otherwise by now, each with the name or pattern
    /// that it had.
    pub renamed: Vec<(String, Interface)>,
    /// Which name or pattern matched which interface.
    pub bound: Vec<Bound>,
    /// All interfaces, as they were listed.
    pub(super) links: Vec<Link>,
    /// The names of what could have been meant.
    there: Vec<String>,
    /// The host's addresses, if some are to be protected.
    addresses: Vec<IpAddr>,
}

/// An interface that a name or pattern matched. It does so until the interface is gone, whatever it is
/// called: a filter follows the interface, not the name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bound {
    /// The name or pattern.
    pub wanted: String,
    /// The interface's number.
    pub index: u32,
}

impl Matched {
    /// Adds the interfaces that are meant by a name or a pattern which they had.
    fn keep_renamed(&mut self, wanted: &[String], bound: &[Bound], links: &[Link]) {
        for bound in bound.iter().filter(|bound| wanted.contains(&bound.wanted)) {
            let link = links.iter().find(|link| link.index == bound.index);
            let Some(link) = link.filter(|link| blind(link).is_none()) else {
                continue;
            };
            if self
                .interfaces
                .iter()
                .any(|other| other.index == link.index)
            {
                continue;
            }
            self.interfaces.push(link.into());
            self.renamed.push((bound.wanted.clone(), link.into()));
            self.bound.push(bound.clone());
            self.missing.retain(|name| *name != bound.wanted);
        }
    }

    /// Looks for these addresses too, at whichever interface.
    ///
    /// # Errors
    ///
    /// When the kernel can't be asked.
    pub fn with_addresses(mut self, wanted: &[IpAddr]) -> Result<Self, Error> {
        if !wanted.is_empty() {
            self.addresses = host_addresses()?;
            let absent = wanted
                .iter()
                .filter(|address| !self.addresses.contains(address));
            self.missing.extend(absent.map(ToString::to_string));
        }
        Ok(self)
    }

    /// The same, where none may be missing.
    ///
    /// # Errors
    ///
    /// Names the first that is missing, and what is there instead.
    pub fn complete(self) -> Result<Self, Error> {
        let Some(name) = self.missing.first() else {
            return Ok(self);
        };
        if name.parse::<IpAddr>().is_ok() {
            let there = quoted(&self.addresses);
            return Err(Error::failed(
                format!("this host has no address `{name}`, so that nothing would be filtered"),
                format!(
                    "it has {}",
                    if there.is_empty() {
                        "none at all"
                    } else {
                        &there
                    }
                ),
            ));
        }
        Err(Error::failed(
            format!("no interface `{name}`"),
            match self.there.as_slice() {
                [] => "there is no Ethernet interface at all".to_owned(),
                there => format!("there are {}", quoted(there)),
            },
        ))
    }
}

fn quoted(what: &[impl Display]) -> String {
    let quoted: Vec<_> = what.iter().map(|it| format!("`{it}`")).collect();
    quoted.join(", ")
}

/// The addresses of this host that others can send to, those of a single link last.
///
/// # Errors
///
/// When the kernel can't be asked.
pub fn host_addresses() -> Result<Vec<IpAddr>, Error> {
    let addresses = netlink::addresses()?.into_iter();
    Ok(addresses.map(|(_, address)| address).collect())
}

/// Why no filter at this interface would see what comes in, if so.
fn blind(link: &Link) -> Option<&'static str> {
    match link.kind {
        LinkKind::Vrf => Some("is a VRF, which sees no packet come in: filter its ports instead"),
        LinkKind::IpvlanL3s => Some(
            "is an ipvlan interface in mode L3S, which sees no packet come in: filter the interface \
             below it instead",
        ),
        _ if !link.ethernet => {
            Some("is not an Ethernet interface: filter the interface its packets arrive by instead")
        }
        _ => None,
    }
}

fn choose(wanted: &[String], links: &[Link]) -> Result<Matched, Error> {
    let seeing: Vec<_> = links.iter().filter(|link| blind(link).is_none()).collect();
    let mut matched = Matched {
        interfaces: Vec::new(),
        missing: Vec::new(),
        renamed: Vec::new(),
        bound: Vec::new(),
        links: links.to_vec(),
        there: seeing.iter().map(|link| link.name.clone()).collect(),
        addresses: Vec::new(),
    };
    for name in wanted {
        // An interface may itself be called `a*`: the name comes before the pattern.
        let named = links.iter().find(|link| link.name == *name);
        let named = named.or_else(|| links.iter().find(|link| link.altnames.contains(name)));
        let meant = match named {
            Some(link) => match blind(link) {
                None => vec![link],
                Some(why) => return Err(Error::Refused(format!("`{name}` {why}"))),
            },
            None => {
                let pattern = WildMatch::new(name);
                let mut meant = seeing.clone();
                meant.retain(|link| pattern.matches(&link.name));
                meant
            }
        };
        if meant.is_empty() {
            matched.missing.push(name.clone());
        }
        for link in meant {
            matched.bound.push(Bound {
                wanted: name.clone(),
                index: link.index,
            });
            if !matched
                .interfaces
                .iter()
                .any(|other| other.index == link.index)
            {
                matched.interfaces.push(link.into());
            }
        }
    }
    Ok(matched)
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
            ..Link::default()
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
        let chosen = choose(&wanted, &links()).and_then(Matched::complete);
        let chosen = chosen.map_err(|error| error.to_string())?;
        let names: Vec<_> = chosen
            .interfaces
            .into_iter()
            .map(|interface| interface.name)
            .collect();
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
    fn alternative_names_are_names_and_come_after_them() {
        let mut links = links();
        links[1].altnames = vec!["enp0s3".into(), "eth1".into()];
        for (name, meant) in [("enp0s3", "eth0"), ("eth1", "eth1")] {
            let matched = choose(&[name.to_owned()], &links).unwrap();
            assert_eq!(matched.interfaces[0].name, meant);
            assert!(matched.missing.is_empty());
        }
        let matched = choose(&["enp*".to_owned()], &links).unwrap();
        assert_eq!(matched.missing, ["enp*"], "patterns are of names");
    }

    #[test]
    fn an_interface_stays_meant_under_whatever_name() {
        let bound = |wanted: &str, index| Bound {
            wanted: wanted.into(),
            index,
        };
        let wanted = ["eth7", "eth*"].map(str::to_owned);
        let before = [
            bound("eth7", 4),
            bound("eth*", 4),
            bound("eth*", 2),
            bound("eth*", 99),
            bound("other", 6),
        ];
        let links = links();
        let mut matched = choose(&wanted, &links).unwrap();
        assert_eq!(matched.missing, ["eth7"]);
        matched.keep_renamed(&wanted, &before, &links);
        let names: Vec<_> = matched.interfaces.iter().map(|found| &found.name).collect();
        assert_eq!(names, ["eth0", "eth1", "ens5"]);
        assert_eq!(
            matched.renamed,
            [("eth7".into(), Interface::from(&links[3]))]
        );
        assert!(matched.missing.is_empty());
        let after = [bound("eth*", 2), bound("eth*", 3), bound("eth7", 4)];
        assert_eq!(matched.bound, after);
    }

    #[test]
    fn what_is_missing_keeps_nothing_from_being_found() {
        let wanted = ["eth7", "eth1", "wlan*", "ens*"].map(str::to_owned);
        let matched = choose(&wanted, &links()).unwrap();
        let names: Vec<_> = matched.interfaces.iter().map(|found| &found.name).collect();
        assert_eq!(names, ["eth1", "ens5"]);
        assert_eq!(matched.missing, ["eth7", "wlan*"]);
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
        assert!(!host_addresses().unwrap().iter().any(IpAddr::is_loopback));
        let matched = Interface::matching(&["lo*".to_owned()], &[]).unwrap();
        assert_eq!(matched.missing, ["lo*"]);
    }

    #[test]
    fn what_sees_nothing_come_in_is_refused_and_no_pattern_means_it() {
        let mut links = links();
        links[2].kind = LinkKind::Vrf;
        links[3].kind = LinkKind::IpvlanL3s;
        for name in ["eth1", "ens5"] {
            let refused = choose(&[name.to_owned()], &links).unwrap_err();
            let said = refused.to_string();
            assert!(said.contains("sees no packet come in"), "{said}");
        }
        let matched = choose(&["*".to_owned()], &links).unwrap();
        let indices: Vec<_> = matched.interfaces.iter().map(|it| it.index).collect();
        assert_eq!(indices, [2, 6]);
    }
}
