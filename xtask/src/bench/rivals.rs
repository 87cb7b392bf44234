//! Others that can let a list of sources through to a port and drop the rest, and how they are told.

use std::{fmt::Write as _, fs, path::PathBuf, process::Command};

use anyhow::Result;
use testkit::{
    lists::{Family, List},
    process::output,
    tool,
};

use super::{Bench, bed::Bed};

/// What they and the measurements need, with the Debian packages that have it.
pub(super) const TOOLS: &[(&str, &str)] = &[
    ("nft", "nftables"),
    ("ipset", "ipset"),
    ("iptables", "iptables"),
    ("xdp-filter", "xdp-tools"),
    ("nginx", "nginx-light"),
    ("wrk", "wrk"),
];

/// The port of the API.
pub(super) const PORT: &str = "443";

/// The most addresses that xdp-filter is given: each is a call of its own.
const XDP_FILTER_MOST: usize = 10;

/// The programs that are configured to admit a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rival {
    /// ipfilter with the table it chooses.
    Ipfilter,
    /// The same, telling of no packet: no events, no talkers.
    Unreported,
    /// ipfilter with the kernel's trie.
    Trie,
    /// nftables at the netdev family's ingress hook.
    NftNetdev,
    /// nftables before routing.
    NftInet,
    /// nftables before routing, with a set that merges by itself.
    NftAutoMerge,
    /// iptables before routing, with a set of ipset's.
    Ipset,
    /// xdp-filter, which knows single addresses only.
    XdpFilter,
}

impl Rival {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Ipfilter => "ipfilter",
            Self::Unreported => "ipfilter, no reports",
            Self::Trie => "ipfilter, trie",
            Self::NftNetdev => "nftables netdev ingress",
            Self::NftInet => "nftables inet raw",
            Self::NftAutoMerge => "nftables, auto-merge",
            Self::Ipset => "iptables with ipset",
            Self::XdpFilter => "xdp-filter",
        }
    }

    /// Whether it is installed and takes so many prefixes of a family.
    pub(super) fn can(self, family: Family, prefixes: usize) -> bool {
        match self {
            Self::Ipfilter | Self::Unreported | Self::Trie => true,
            Self::NftNetdev | Self::NftInet | Self::NftAutoMerge => tool("nft", "").is_ok(),
            Self::Ipset => tool("ipset", "").is_ok() && tool("iptables", "").is_ok(),
            Self::XdpFilter => {
                let fits = family == Family::V4 && prefixes <= XDP_FILTER_MOST;
                fits && tool("xdp-filter", "").is_ok()
            }
        }
    }

    /// Writes the file that loads `list` into it, for the interface of `bed`.
    pub(super) fn write(self, bench: &Bench<'_>, list: &List, bed: &Bed) -> Result<PathBuf> {
        let path = bench
            .folder
            .join(format!("{self:?}-{}-{}", list.family, list.prefixes.len()));
        let text = match self {
            Self::Ipfilter | Self::Unreported | Self::Trie | Self::XdpFilter => list.policy(true),
            Self::NftNetdev => {
                let hook = format!("hook ingress device {} priority 0", bed.interface);
                nft("netdev", &hook, "flags interval", list)
            }
            Self::NftInet => nft(
                "inet",
                "hook prerouting priority raw",
                "flags interval",
                list,
            ),
            Self::NftAutoMerge => nft(
                "inet",
                "hook prerouting priority raw",
                "flags interval; auto-merge",
                list,
            ),
            Self::Ipset => ipset(list),
        };
        fs::write(&path, text)?;
        Ok(path)
    }

    /// The command that loads a list of that size from its file.
    pub(super) fn load(
        self,
        bench: &Bench<'_>,
        bed: &Bed,
        path: &std::path::Path,
    ) -> Result<Command> {
        let path = path.display().to_string();
        Ok(match self {
            Self::Ipfilter | Self::Unreported | Self::Trie => {
                let mut command = ipfilter(bench, bed);
                let lookup = if self == Self::Trie { "trie" } else { "auto" };
                command
                    .args(["deploy", "--interface", &bed.interface, "--port", PORT])
                    .args(["--lookup", lookup, "--policy", &path]);
                if self == Self::Unreported {
                    command.args(["--events", "0"]);
                }
                command
            }
            Self::NftNetdev | Self::NftInet | Self::NftAutoMerge => {
                let mut command = bed.receiver.command(tool("nft", "nftables")?);
                command.args(["-f", &path]);
                command
            }
            Self::Ipset => {
                let mut command = bed.receiver.command(tool("ipset", "ipset")?);
                command.args(["restore", "-file", &path]);
                command
            }
            Self::XdpFilter => {
                let mut command = bed.receiver.command(tool("xdp-filter", "xdp-tools")?);
                command.args([
                    "load",
                    "--policy",
                    "deny",
                    "--features",
                    "ipv4",
                    &bed.interface,
                ]);
                command
            }
        })
    }

    /// What is to be done once the list is loaded, before it is in force.
    pub(super) fn enforce(self, bed: &Bed, list: &List) -> Result<()> {
        match self {
            Self::Ipset => {
                let rule = format!(
                    "-t raw -A PREROUTING -p tcp --dport {PORT} -m set ! --match-set bench src -j DROP"
                );
                let name = match list.family {
                    Family::V4 => "iptables",
                    Family::V6 => "ip6tables",
                };
                output(
                    bed.receiver
                        .command(tool(name, "iptables")?)
                        .args(rule.split(' ')),
                )?;
            }
            Self::XdpFilter => {
                for text in list.texts() {
                    let (address, _) = text.split_once('/').unwrap_or((&text, ""));
                    let program = tool("xdp-filter", "xdp-tools")?;
                    output(
                        bed.receiver
                            .command(program)
                            .args(["ip", "--mode", "src", address]),
                    )?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// The commands that take it away again.
    pub(super) fn unload(self, bench: &Bench<'_>, bed: &Bed) -> Result<Vec<Command>> {
        let run = |name: &str, line: &str| -> Result<Command> {
            let mut command = bed.receiver.command(tool(name, name)?);
            command.args(line.split(' '));
            Ok(command)
        };
        Ok(match self {
            Self::Ipfilter | Self::Unreported | Self::Trie => {
                let mut command = ipfilter(bench, bed);
                command.arg("detach");
                vec![command]
            }
            Self::NftNetdev | Self::NftInet | Self::NftAutoMerge => {
                vec![run("nft", "flush ruleset")?]
            }
            Self::Ipset => vec![
                run("iptables", "-t raw -F")?,
                run("ip6tables", "-t raw -F")?,
                run("ipset", "destroy bench")?,
            ],
            Self::XdpFilter => vec![run("xdp-filter", &format!("unload {}", bed.interface))?],
        })
    }
}

/// `ipfilter` in the receiver's namespace, with an instance and folders of the benchmark's own.
pub(super) fn ipfilter(bench: &Bench<'_>, bed: &Bed) -> Command {
    let mut command = bed.receiver.command(&bench.ipfilter);
    command
        .args(["--instance", &format!("bench-{}", bed.interface)])
        .env("STATE_DIRECTORY", bench.folder.join("state"))
        .env("RUNTIME_DIRECTORY", bench.folder.join("run"))
        .env("RUST_LOG", "error");
    command
}

/// Takes a rival away when dropped, so that nothing is left behind on a failure either.
pub(super) struct Loaded<'a> {
    pub(super) rival: Rival,
    pub(super) bench: &'a Bench<'a>,
    pub(super) bed: &'a Bed,
}

impl Drop for Loaded<'_> {
    fn drop(&mut self) {
        for mut command in self.rival.unload(self.bench, self.bed).unwrap_or_default() {
            // It may be gone already; namespaces go anyway, and rules with them.
            let _: Result<String> = output(&mut command);
        }
    }
}

fn nft(family: &str, hook: &str, flags: &str, list: &List) -> String {
    let elements: Vec<String> = list.texts().collect();
    let (address, header) = match list.family {
        Family::V4 => ("ipv4_addr", "ip"),
        Family::V6 => ("ipv6_addr", "ip6"),
    };
    format!(
        "table {family} bench {{\n set allowed {{\n type {address}; {flags}\n elements = {{ {} }}\n }}\n \
         chain in {{\n type filter {hook}; policy accept;\n \
         tcp dport {PORT} {header} saddr != @allowed drop\n }}\n}}\n",
        elements.join(",\n")
    )
}

fn ipset(list: &List) -> String {
    let most = list.prefixes.len().max(1024);
    let family = match list.family {
        Family::V4 => "inet",
        Family::V6 => "inet6",
    };
    let mut text =
        format!("create bench hash:net family {family} hashsize {most} maxelem {most}\n");
    for prefix in list.texts() {
        // Writing to a string can't fail.
        let _: std::fmt::Result = writeln!(text, "add bench {prefix}");
    }
    text
}
