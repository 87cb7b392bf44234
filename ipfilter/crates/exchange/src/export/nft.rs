//! nftables (nft(8)). A chain that others jump to: what it does not drop goes on behind the jump.

use ipfilter_addresses::AddressSet;
use ipnet::IpNet;

use super::Rules;

pub(super) fn write(set: &AddressSet) -> String {
    let [v4, v6] = Rules::both(set);
    format!(
        "# Load it with `nft -f`, and jump to the chain for the ports of the API:\n\
         #   nft add rule inet filter input tcp dport 443 jump …, in a chain of the same table\n\
         table inet ipfilter {{\n\
         {}{}\
         \tchain sources {{\n\
         {}{}\
         \t}}\n\
         }}\n",
        elements("v4", "ipv4_addr", &v4.blocks),
        elements("v6", "ipv6_addr", &v6.blocks),
        rules("ipv4", "ip", "v4", &v4),
        rules("ipv6", "ip6", "v6", &v6),
    )
}

fn elements(name: &str, kind: &str, blocks: &[IpNet]) -> String {
    let blocks: Vec<String> = blocks.iter().map(ToString::to_string).collect();
    let elements = match blocks.is_empty() {
        true => String::new(),
        false => format!("\t\telements = {{ {} }}\n", blocks.join(",\n\t\t\t     ")),
    };
    format!("\tset {name} {{\n\t\ttype {kind}\n\t\tflags interval\n{elements}\t}}\n\n")
}

fn rules(protocol: &str, header: &str, name: &str, rules: &Rules) -> String {
    let verdict = |allow| if allow { "return" } else { "drop" };
    format!(
        "\t\t{header} saddr @{name} {}\n\t\tmeta nfproto {protocol} {}\n",
        verdict(rules.allow),
        verdict(!rules.allow)
    )
}
