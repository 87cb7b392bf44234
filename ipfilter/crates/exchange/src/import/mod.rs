//! Reading lists.

mod aws;
mod csv;
mod events;
mod ipset;
mod iptables;
mod nft;
mod nginx;
mod plain;

use ipfilter_addresses::AddressSet;

use crate::Problem;

/// The forms that are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// An address, block or range a line.
    Plain,
    /// Comma-separated values, one column of which has addresses.
    Csv,
    /// nftables: `nft list ruleset`, a set, or elements.
    Nft,
    /// `ipset save`.
    Ipset,
    /// `iptables-save` and `ip6tables-save`.
    Iptables,
    /// `allow` and `deny` of nginx.
    Nginx,
    /// AWS's `ip-ranges.json`.
    IpRanges,
    /// An IP set of AWS WAF.
    Waf,
    /// Security groups of EC2.
    SecurityGroup,
    /// What `ipfilter events` prints.
    Events,
}

/// What to take of a list that has more than one thing.
#[derive(Clone, Debug, Default)]
pub struct Choice {
    /// Sets of nftables or ipset, by name; all of them if there are none.
    pub sets: Vec<String>,
    /// The column of a CSV, by its heading or its number from 1.
    pub column: Option<String>,
    /// A service of `ip-ranges.json`.
    pub service: Option<String>,
    /// A region of `ip-ranges.json`.
    pub region: Option<String>,
    /// The port that a security group's rules must be about.
    pub port: Option<u16>,
}

/// The outcome of reading a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Imported {
    /// The sources that it lets in.
    pub sources: AddressSet,
    /// Its entries.
    pub entries: usize,
}

/// The most problems that are reported of a list.
const MOST_PROBLEMS: usize = 20;

/// The form that `text` seems to be in.
#[must_use]
pub fn detect(text: &str) -> Format {
    let text = text.trim_start_matches('\u{feff}').trim_start();
    if text.starts_with(['{', '[']) && !nft::is_elements(text) {
        return aws::detect(text);
    }
    let lines = || {
        let lines = text.lines().map(str::trim);
        lines
            .filter(|line| !line.is_empty() && !line.starts_with('#'))
            .take(50)
    };
    let any = |is: fn(&str) -> bool| lines().any(is);
    if any(ipset::is_line) && !any(nft::is_beginning) {
        Format::Ipset
    } else if any(|line| {
        ["-A ", "-4 -A ", "-6 -A ", "*filter", "*raw", "*mangle"]
            .iter()
            .any(|it| line.starts_with(it))
    }) {
        Format::Iptables
    } else if any(nginx::is_rule) {
        Format::Nginx
    } else if nft::is_elements(text) || any(nft::is_beginning) {
        Format::Nft
    } else if lines().next().is_some_and(events::is_event) {
        Format::Events
    } else if any(csv::is_row) {
        Format::Csv
    } else {
        Format::Plain
    }
}

/// Reads a list.
///
/// # Errors
///
/// All that is wrong with it, up to a limit.
pub fn import(text: &str, format: Format, choice: &Choice) -> Result<Imported, Vec<Problem>> {
    let text = text.trim_start_matches('\u{feff}');
    let imported = match format {
        Format::Plain => plain::read(text),
        Format::Csv => csv::read(text, choice),
        Format::Nft => nft::read(text, choice),
        Format::Ipset => ipset::read(text, choice),
        Format::Iptables => iptables::read(text),
        Format::Nginx => nginx::read(text),
        Format::IpRanges => aws::ip_ranges(text, choice),
        Format::Waf => aws::waf(text),
        Format::SecurityGroup => aws::security_group(text, choice),
        Format::Events => events::read(text),
    }?;
    if imported.entries == 0 {
        let message =
            "there is no address in it: if it is to let nobody in, write that policy yourself";
        return Err(vec![Problem::new(1, 1, message)]);
    }
    Ok(imported)
}

/// Problems, of which the first are kept.
#[derive(Default)]
struct Problems(Vec<Problem>);

impl Problems {
    fn add(&mut self, line: usize, column: usize, message: impl Into<String>) {
        if self.0.len() < MOST_PROBLEMS {
            self.0.push(Problem::new(line, column, message));
        }
    }

    /// The outcome, if nothing is wrong.
    fn or(self, imported: Imported) -> Result<Imported, Vec<Problem>> {
        match self.0.is_empty() {
            true => Ok(imported),
            false => Err(self.0),
        }
    }
}

/// Where `part`, a slice of `line`, begins in it, in characters from 1.
fn column(line: &str, part: &str) -> usize {
    let bytes = (part.as_ptr() as usize).saturating_sub(line.as_ptr() as usize);
    line.get(..bytes)
        .map_or(1, |before| before.chars().count() + 1)
}
