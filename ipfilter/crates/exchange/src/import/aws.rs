//! AWS's JSON: `ip-ranges.json`, IP sets of WAF, security groups of EC2.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{Choice, Format, Imported, Problems};
use crate::{
    Problem,
    block::{Range, set, unexpected},
};

pub(super) fn detect(text: &str) -> Format {
    // What is not one document is one a line.
    let Ok(document) = serde_json::from_str::<Value>(text) else {
        return Format::Events;
    };
    let has = |keys: &[&str]| keys.iter().any(|key| !find(&document, key).is_empty());
    if has(&["ip_prefix", "ipv6_prefix", "prefixes"]) {
        Format::IpRanges
    } else if has(&[
        "IpPermissions",
        "SecurityGroups",
        "SecurityGroupRules",
        "CidrIp",
    ]) {
        Format::SecurityGroup
    } else if has(&["Addresses", "IPSetDescriptors"]) {
        Format::Waf
    } else {
        Format::Events
    }
}

/// All values under `key`, however deep.
fn find<'v>(value: &'v Value, key: &str) -> Vec<&'v Value> {
    let mut found = Vec::new();
    let mut open = vec![value];
    while let Some(value) = open.pop() {
        match value {
            Value::Object(members) => {
                found.extend(members.get(key));
                open.extend(members.values());
            }
            Value::Array(items) => open.extend(items),
            _ => {}
        }
    }
    found
}

fn parse(text: &str) -> Result<Value, Vec<Problem>> {
    serde_json::from_str(text).map_err(|error| {
        let message = format!("this is not JSON: {error}");
        vec![Problem::new(error.line(), error.column().max(1), message)]
    })
}

/// Text under a key.
fn text<'v>(value: &'v Value, key: &str) -> Option<&'v str> {
    value.get(key)?.as_str()
}

fn items<'v>(value: &'v Value, key: &str) -> impl Iterator<Item = &'v Value> {
    value
        .get(key)
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
}

/// Ranges, and what is none.
struct Ranges<'t> {
    content: &'t str,
    ranges: Vec<Range>,
    problems: Problems,
}

impl<'t> Ranges<'t> {
    fn of(content: &'t str) -> Self {
        Self {
            content,
            ranges: Vec::new(),
            problems: Problems::default(),
        }
    }

    /// Notes what is wrong with `value`, at its first place in the text.
    fn problem(&mut self, value: &str, message: impl Into<String>) {
        let before = self.content.find(&format!("\"{value}\""));
        let before = before.and_then(|end| self.content.get(..end)).unwrap_or("");
        let line = before.matches('\n').count() + 1;
        let column = before.chars().rev().take_while(|it| *it != '\n').count() + 1;
        self.problems.add(line, column, message);
    }

    fn push(&mut self, text: &str) {
        match Range::parse(text) {
            Some(range) => self.ranges.push(range),
            None => self.problem(text, unexpected(text)),
        }
    }

    fn finish(self) -> Result<Imported, Vec<Problem>> {
        self.problems.or(Imported {
            entries: self.ranges.len(),
            sources: set(self.ranges),
        })
    }
}

pub(super) fn ip_ranges(content: &str, choice: &Choice) -> Result<Imported, Vec<Problem>> {
    let document = parse(content)?;
    let mut ranges = Ranges::of(content);
    let wanted = |entry: &Value| {
        let is = |key, wanted: &Option<String>| {
            let wanted = wanted.as_deref();
            wanted.is_none_or(|wanted| {
                text(entry, key).is_some_and(|it| it.eq_ignore_ascii_case(wanted))
            })
        };
        is("service", &choice.service) && is("region", &choice.region)
    };
    for (list, key) in [("prefixes", "ip_prefix"), ("ipv6_prefixes", "ipv6_prefix")] {
        for entry in items(&document, list).filter(|entry| wanted(entry)) {
            match text(entry, key) {
                Some(network) => ranges.push(network),
                None => ranges.problem(list, format!("an entry of `{list}` has no `{key}`")),
            }
        }
    }
    ranges.finish()
}

pub(super) fn waf(content: &str) -> Result<Imported, Vec<Problem>> {
    let document = parse(content)?;
    let mut ranges = Ranges::of(content);
    for list in find(&document, "Addresses") {
        for address in list.as_array().into_iter().flatten() {
            ranges.push(address.as_str().unwrap_or_default());
        }
    }
    // WAF Classic.
    for list in find(&document, "IPSetDescriptors") {
        for descriptor in list.as_array().into_iter().flatten() {
            ranges.push(text(descriptor, "Value").unwrap_or_default());
        }
    }
    ranges.finish()
}

pub(super) fn security_group(content: &str, choice: &Choice) -> Result<Imported, Vec<Problem>> {
    let document = parse(content)?;
    let mut by_ports: BTreeMap<String, Ranges<'_>> = BTreeMap::new();
    let lists = find(&document, "IpPermissions");
    let bare = lists.is_empty() && document.is_array();
    let permissions = lists.into_iter().filter_map(Value::as_array).flatten();
    let permissions = permissions.chain(document.as_array().filter(|_| bare).into_iter().flatten());
    for permission in permissions.filter(|it| concerns(it, choice.port)) {
        let ranges = by_ports
            .entry(ports(permission, choice.port))
            .or_insert_with(|| Ranges::of(content));
        for (list, key) in [("IpRanges", "CidrIp"), ("Ipv6Ranges", "CidrIpv6")] {
            items(permission, list)
                .filter_map(|entry| text(entry, key))
                .for_each(|it| ranges.push(it));
        }
        let others = ["PrefixListIds", "UserIdGroupPairs"];
        if let Some(other) = others
            .iter()
            .find(|list| items(permission, list).next().is_some())
        {
            ranges.problem(
                other,
                format!("a rule has `{other}`, of which no addresses are in the file"),
            );
        }
    }
    let rules = find(&document, "SecurityGroupRules");
    let rules = rules.into_iter().filter_map(Value::as_array).flatten();
    let ingress = rules.filter(|rule| rule.get("IsEgress") != Some(&Value::Bool(true)));
    for rule in ingress.filter(|it| concerns(it, choice.port)) {
        let ranges = by_ports
            .entry(ports(rule, choice.port))
            .or_insert_with(|| Ranges::of(content));
        let networks = ["CidrIpv4", "CidrIpv6"]
            .iter()
            .find_map(|key| text(rule, key));
        match networks {
            Some(network) => ranges.push(network),
            None => ranges.problem(
                "SecurityGroupRules",
                "a rule names a group or a prefix list, of which no addresses are in the file",
            ),
        }
    }
    one_of(by_ports)
}

/// Whether a rule is about `port`, if one was asked for.
fn concerns(rule: &Value, port: Option<u16>) -> bool {
    let Some(port) = port else { return true };
    let end = |key| rule.get(key).and_then(Value::as_i64);
    match (end("FromPort"), end("ToPort")) {
        (Some(first), Some(last)) => first == -1 || (first..=last).contains(&i64::from(port)),
        _ => true,
    }
}

/// The ports that a rule is about; once one was asked for, its other ports don't matter.
fn ports(rule: &Value, asked: Option<u16>) -> String {
    if let Some(port) = asked {
        return port.to_string();
    }
    let end = |key| rule.get(key).map_or("all".to_owned(), Value::to_string);
    format!(
        "{} {}-{}",
        text(rule, "IpProtocol").unwrap_or("all"),
        end("FromPort"),
        end("ToPort")
    )
}

/// The sources, if they are the same for all ports.
fn one_of(by_ports: BTreeMap<String, Ranges<'_>>) -> Result<Imported, Vec<Problem>> {
    let names: Vec<_> = by_ports.keys().cloned().collect();
    let mut all = Vec::new();
    for ranges in by_ports.into_values() {
        all.push(ranges.finish()?);
    }
    let Some(first) = all.first().cloned() else {
        return Ok(Imported {
            sources: ipfilter_addresses::AddressSet::empty(),
            entries: 0,
        });
    };
    if all.iter().any(|one| one.sources != first.sources) {
        let message = format!(
            "the sources are others for other ports ({}): choose with `--port`",
            names.join(", ")
        );
        return Err(vec![Problem::new(1, 1, message)]);
    }
    Ok(first)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn ip_ranges_are_chosen_by_service_and_region() {
        let text = json!({"syncToken": "1", "prefixes": [
            {"ip_prefix": "3.5.140.0/22", "region": "ap-northeast-2", "service": "AMAZON"},
            {"ip_prefix": "52.95.36.0/22", "region": "us-east-1", "service": "S3"}],
            "ipv6_prefixes": [{"ipv6_prefix": "2600:1f14::/35", "region": "us-east-1", "service": "EC2"}]}).to_string();
        assert_eq!(detect(&text), Format::IpRanges);
        assert_eq!(ip_ranges(&text, &Choice::default()).unwrap().entries, 3);
        let choice = Choice {
            service: Some("s3".into()),
            region: Some("us-east-1".into()),
            ..Choice::default()
        };
        assert_eq!(ip_ranges(&text, &choice).unwrap().sources.v4.count(), 1024);
    }

    #[test]
    fn a_waf_set_is_read_in_both_forms() {
        let text = json!({"IPSet": {"Name": "x", "IPAddressVersion": "IPV4", "Addresses": ["192.0.2.0/24"]}}).to_string();
        assert_eq!(detect(&text), Format::Waf);
        assert_eq!(waf(&text).unwrap().entries, 1);
        let text =
            json!({"IPSet": {"IPSetDescriptors": [{"Type": "IPV6", "Value": "2001:db8::/32"}]}})
                .to_string();
        assert_eq!(waf(&text).unwrap().entries, 1);
        assert!(waf(r#"{"Addresses": ["x"]}"#).is_err());
    }

    #[test]
    fn a_group_with_other_sources_for_other_ports_needs_a_choice() {
        let rule = |port: i64, network: &str| {
            json!({"IpProtocol": "tcp", "FromPort": port, "ToPort": port,
            "IpRanges": [{"CidrIp": network}], "Ipv6Ranges": []})
        };
        let text = json!({"SecurityGroups": [{"IpPermissions": [rule(443, "192.0.2.0/24"), rule(22, "10.0.0.0/8")]}]}).to_string();
        assert_eq!(detect(&text), Format::SecurityGroup);
        assert!(
            security_group(&text, &Choice::default()).unwrap_err()[0]
                .message
                .contains("--port")
        );
        let choice = Choice {
            port: Some(443),
            ..Choice::default()
        };
        assert_eq!(
            security_group(&text, &choice).unwrap().sources.v4.count(),
            256
        );
        let text = json!({"IpPermissions": [{"IpProtocol": "-1", "UserIdGroupPairs": [{"GroupId": "sg-1"}]}]}).to_string();
        assert!(security_group(&text, &Choice::default()).is_err());
    }
}
