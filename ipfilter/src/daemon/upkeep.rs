//! Keeping what is in force where it belongs.

use log::{error, info, warn};

use super::{Daemon, notify};
use crate::kernel::{Attachment, Interface};
use crate::state::{Kind, Requester};

impl Daemon {
    /// Puts the filter on interfaces that have come, and forgets those that have gone.
    pub(super) fn follow(&mut self) {
        let bound = &self.history.record.bound;
        let spec = self.policies.spec();
        let matched = Interface::matching(&spec.interfaces, bound)
            .and_then(|matched| matched.with_addresses(&spec.protected()));
        let matched = match matched {
            Ok(matched) => matched,
            Err(error) => return error!("can't follow the interfaces: {error}"),
        };
        let followed = self.deployment.follow(&matched);
        for attachment in &followed.attached {
            announce(attachment);
            self.note(Kind::Attach, Requester::Kernel, &attachment.interface.name);
        }
        for interface in &followed.left {
            info!(interface = interface.name; "`{}` is gone", interface.name);
            let what = format!("`{}` is gone", interface.name);
            self.note(Kind::Detach, Requester::Kernel, &what);
        }
        let failed: Vec<_> = followed.failed.iter().map(ToString::to_string).collect();
        let failed = failed.join("; ");
        if self.unattached != failed && !failed.is_empty() {
            error!("not filtered: {failed}");
        }
        self.unattached = failed;
        let record = &self.history.record;
        let changed = !followed.attached.is_empty()
            || !followed.left.is_empty()
            || record.waiting != matched.missing
            || record.bound != matched.bound;
        self.set_matched(matched);
        if changed {
            let (history, status) = (self.history.clone(), self.status());
            self.keeper.run(move || {
                history.save();
                notify::status(&status);
            });
        }
    }

    /// Repairs what others have undone.
    pub(super) fn repair(&mut self) {
        let repaired = self.deployment.repair();
        // The directory may be another one now.
        if let Err(error) = self.lock.claim_pins() {
            error!("{error:#}");
        }
        for what in &repaired.done {
            warn!("{what}");
            self.note(Kind::Repair, Requester::Kernel, what);
        }
        let failed: Vec<_> = repaired.failed.iter().map(ToString::to_string).collect();
        let failed = failed.join("; ");
        if self.unrepaired != failed {
            if !failed.is_empty() {
                error!("the filter is attached only as long as this process runs: {failed}");
            }
            self.unrepaired = failed;
        }
    }

    pub(super) fn rotate_keys(&self) {
        if let Err(error) = self.filter.rotate_keys() {
            warn!("{error}");
        }
    }
}

pub(super) fn announce(attachment: &Attachment) {
    let name = &attachment.interface.name;
    for reason in &attachment.passed_over {
        warn!(interface = name; "`{name}` can't use {reason}");
    }
    for warning in &attachment.warnings {
        warn!(interface = name; "`{name}`: {warning}");
    }
    let hook = attachment.hook.name();
    info!(interface = name, hook; "filtering `{name}` ({hook})");
}
