//! Keeping what is in force where it belongs.

use log::{error, info, warn};

use super::{Daemon, notify};
use crate::kernel::{Attached, Interface};

impl Daemon {
    /// Puts the filter on interfaces that have come, and forgets those that have gone.
    pub(super) fn follow(&mut self) {
        let matched = match Interface::matching(&self.policies.spec().interfaces) {
            Ok(matched) => matched,
            Err(error) => return error!("can't follow the interfaces: {error}"),
        };
        let followed = self.deployment.follow(&matched.interfaces);
        followed.attached.iter().for_each(announce);
        for interface in &followed.left {
            info!(interface = interface.name; "`{}` is gone", interface.name);
        }
        for error in &followed.failed {
            error!("{error}");
        }
        let changed = !followed.attached.is_empty() || !followed.left.is_empty();
        if changed || self.history.record.waiting != matched.missing {
            self.history.record.waiting = matched.missing;
            self.history.save();
            notify::status(&self.status());
        }
    }

    /// Puts right what others have undone.
    pub(super) fn repair(&mut self) {
        let mended = self.deployment.repair();
        // The directory may be another one now.
        if let Err(error) = self.lock.claim_pins() {
            error!("{error:#}");
        }
        for what in &mended.done {
            warn!("{what}");
        }
        let failed: Vec<_> = mended.failed.iter().map(ToString::to_string).collect();
        let failed = failed.join("; ");
        if self.unmended != failed {
            if !failed.is_empty() {
                error!("the filter stands as long as this process, and no longer: {failed}");
            }
            self.unmended = failed;
        }
    }

    pub(super) fn rotate_keys(&self) {
        if let Err(error) = self.filter.rotate_keys() {
            warn!("{error}");
        }
    }
}

pub(super) fn announce(attached: &Attached) {
    let name = &attached.interface.name;
    for reason in &attached.passed_over {
        warn!(interface = name; "`{name}` can't use {reason}");
    }
    let hook = attached.hook.name();
    info!(interface = name, hook; "filtering `{name}` ({hook})");
}
