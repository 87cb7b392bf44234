//! nginx's `ngx_http_access_module`, for a `server` or a `location`: the first that matches decides.

use ipfilter_addresses::AddressSet;

use super::lines;

pub(super) fn write(set: &AddressSet) -> String {
    let rest = set.complement();
    if rest.networks().count() < set.networks().count() {
        return lines(rest.networks(), "deny ", ";\n") + "allow all;\n";
    }
    lines(set.networks(), "allow ", ";\n") + "deny all;\n"
}
