//! `iptables-restore` and `ip6tables-restore`, which each skip the lines that begin with the other's `-4` or `-6`.
//! A chain that others jump to: what it does not drop returns.

use ipfilter_addresses::AddressSet;

use super::{Rules, lines};

pub(super) fn write(set: &AddressSet) -> String {
    let [v4, v6] = Rules::both(set);
    format!(
        "# Load it with `iptables-restore --noflush` and with `ip6tables-restore --noflush`, and jump to the chain:\n\
         #   iptables -A INPUT -p tcp --dport 443 -j ipfilter\n\
         *filter\n:ipfilter - [0:0]\n{}{}COMMIT\n",
        rules("-4", &v4),
        rules("-6", &v6)
    )
}

fn rules(family: &str, rules: &Rules) -> String {
    let target = |allow| if allow { "RETURN" } else { "DROP" };
    let (before, after) = (
        format!("{family} -A ipfilter -s "),
        format!(" -j {}\n", target(rules.allow)),
    );
    let listed = lines(rules.blocks.iter().copied(), &before, &after);
    format!("{listed}{family} -A ipfilter -j {}\n", target(!rules.allow))
}
