//! IP sets of AWS WAF, which have one family each, up to 10,000 blocks, and none of length 0 (WAF Developer
//! Guide, "IP set match rule statement", "AWS WAF quotas").

use ipfilter_addresses::AddressSet;
use ipnet::IpNet;
use serde_json::{Value, json};

use super::{ExportError, halved};

const MOST: usize = 10_000;

/// What `aws wafv2 create-ip-set --cli-input-json` takes, for each family.
pub(super) fn write(set: &AddressSet) -> Result<String, ExportError> {
    let sets = [
        one(
            "IPv4",
            "IPV4",
            &halved(set.networks_v4()).collect::<Vec<_>>(),
        )?,
        one(
            "IPv6",
            "IPV6",
            &halved(set.networks_v6()).collect::<Vec<_>>(),
        )?,
    ];
    Ok(format!("{:#}\n", Value::from(sets.to_vec())))
}

fn one(family: &'static str, version: &str, blocks: &[IpNet]) -> Result<Value, ExportError> {
    if blocks.len() > MOST {
        return Err(ExportError::TooMany {
            family,
            blocks: blocks.len(),
            most: MOST,
        });
    }
    let addresses: Vec<String> = blocks.iter().map(ToString::to_string).collect();
    Ok(json!({
        "Name": format!("ipfilter-{}", family.to_lowercase()),
        "Scope": "REGIONAL",
        "IPAddressVersion": version,
        "Addresses": addresses,
    }))
}
