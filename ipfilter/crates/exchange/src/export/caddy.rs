//! Caddy (Caddyfile, matcher `remote_ip`), for a site.

use ipfilter_addresses::AddressSet;

pub(super) fn write(set: &AddressSet) -> String {
    let rest = set.complement();
    if rest.is_empty() {
        return "# Everyone may call: there is nothing to configure.\n".to_owned();
    }
    if set.is_empty() {
        return "respond 403\n".to_owned();
    }
    let few = rest.networks().count() < set.networks().count();
    let (word, blocks) = if few { ("", &rest) } else { ("not ", set) };
    let blocks: Vec<String> = blocks.networks().map(|block| block.to_string()).collect();
    format!(
        "@denied {word}remote_ip {}\nrespond @denied 403\n",
        blocks.join(" ")
    )
}
