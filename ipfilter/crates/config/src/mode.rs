//! Where at an interface the operator wants the filter.

use serde::{Deserialize, Serialize};

/// Where the operator wants the filter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// The first that works of native XDP, traffic control and generic XDP.
    #[default]
    Auto,
    /// Native XDP: in the driver.
    Native,
    /// Generic XDP: after the kernel has made a packet buffer.
    Generic,
    /// Traffic control, ingress: by a tcx link, where the kernel has no such thing by clsact.
    Tc,
    /// Traffic control by clsact, also where the kernel has tcx links.
    Clsact,
}
