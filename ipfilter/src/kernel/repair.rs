//! Repairing what others undid.

use super::{
    attachment::Attachment,
    deployment::Deployment,
    error::Error,
    netlink,
    pins::{Pins, Repaired},
    programs::Programs,
};

impl Deployment {
    /// Repairs what others undid: an unmounted BPF file system, removed pins, detached filters and replaced
    /// programs. Interfaces that are gone are left to [`Self::follow`].
    pub fn repair(&mut self) -> Repaired {
        let mut repaired = self.pins.restore();
        let links = match netlink::links() {
            Ok(links) => links,
            Err(error) => {
                repaired.failed.push(error);
                return repaired;
            }
        };
        for attachment in &mut self.attachments {
            let is_there = links
                .iter()
                .any(|link| link.index == attachment.interface.index);
            if !is_there {
                continue;
            }
            match repair(&self.pins, &mut self.programs, attachment, &links) {
                Ok(done) => repaired.done.extend(done),
                Err(error) => repaired.failed.push(error),
            }
        }
        repaired
    }
}

/// Attaches the program again if it was detached or replaced.
fn repair(
    pins: &Pins,
    programs: &mut Programs,
    attachment: &mut Attachment,
    links: &[netlink::Link],
) -> Result<Option<String>, Error> {
    let name = attachment.interface.name.clone();
    match attachment.program()? {
        Some(found) if found == programs.id(attachment.hook)? => Ok(None),
        Some(_) => {
            attachment.replace(programs.of(attachment.hook)?)?;
            Ok(Some(format!(
                "the program on `{name}` was another: put this deployment's there again"
            )))
        }
        None => {
            attachment.forget()?;
            *attachment = programs.attach(pins, &attachment.interface, links)?;
            Ok(Some(format!(
                "the filter was detached from `{name}`: attached it again"
            )))
        }
    }
}
