//! A set as a policy.

use ipfilter_addresses::AddressSet;
use ipnet::IpNet;
use serde_json::{Map, Value, json};

/// A policy that lets in just the sources of `set`.
///
/// Sources in `vpc` arrive as `aws:VpcSourceIp`, all others as `aws:SourceIp`; so each part is named under
/// its own key.
#[must_use]
pub fn policy(set: &AddressSet, vpc: &AddressSet) -> String {
    let statements = if set.is_empty() {
        vec![statement("Deny", "Nobody", None)]
    } else {
        let (few, rest) = (conditions(set, vpc), conditions(&set.complement(), vpc));
        let entries = |parts: &[Part]| parts.iter().map(|part| part.networks.len()).sum::<usize>();
        if entries(&rest) < entries(&few) {
            let all = statement("Allow", "Everyone", None);
            let but = rest
                .iter()
                .map(|part| statement("Deny", part.not, Some(part)));
            std::iter::once(all).chain(but).collect()
        } else {
            let allows = few
                .iter()
                .map(|part| statement("Allow", part.only, Some(part)));
            allows.collect()
        }
    };
    let document = json!({ "Version": "2012-10-17", "Statement": statements });
    format!("{document:#}\n")
}

/// What is named under one key.
struct Part {
    key: &'static str,
    only: &'static str,
    not: &'static str,
    networks: Vec<IpNet>,
}

fn conditions(set: &AddressSet, vpc: &AddressSet) -> Vec<Part> {
    let parts = [
        Part {
            key: "aws:SourceIp",
            only: "OnlyThese",
            not: "NotThese",
            networks: fewest(set, &vpc.complement()),
        },
        Part {
            key: "aws:VpcSourceIp",
            only: "OnlyThesePrivate",
            not: "NotThesePrivate",
            networks: fewest(set, vpc),
        },
    ];
    let named = parts.into_iter().filter(|part| !part.networks.is_empty());
    named.collect()
}

/// The fewest blocks that hold the members of `set` among `those`, and none of their others. A family of which
/// all are members is one block, whatever else is in it.
fn fewest(set: &AddressSet, those: &AddressSet) -> Vec<IpNet> {
    let mut named = set.intersection(those);
    let missing = those.difference(set);
    if missing.v4.is_empty() && !named.v4.is_empty() {
        named.v4 = ipfilter_addresses::Intervals::all();
    }
    if missing.v6.is_empty() && !named.v6.is_empty() {
        named.v6 = ipfilter_addresses::Intervals::all();
    }
    named.networks().collect()
}

fn statement(effect: &str, sid: &str, part: Option<&Part>) -> Value {
    let mut statement = Map::new();
    let mut add = |name: &str, value: Value| statement.insert(name.to_owned(), value);
    add("Sid", sid.into());
    add("Effect", effect.into());
    add("Principal", "*".into());
    add("Action", "execute-api:Invoke".into());
    add("Resource", "execute-api:/*".into());
    if let Some(part) = part {
        let networks: Vec<String> = part.networks.iter().map(ToString::to_string).collect();
        add("Condition", json!({ "IpAddress": { part.key: networks } }));
    }
    statement.into()
}
