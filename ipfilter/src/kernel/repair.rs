//! Putting right what others undid.

use super::{
    attachment::Attachment, deployment::Deployment, error::Error, filter::Attached, netlink,
    pins::Pins, programs::Programs,
};

/// What was put right.
#[derive(Debug, Default)]
pub struct Repaired {
    /// A sentence for each thing that was put right.
    pub done: Vec<String>,
    /// What could not be.
    pub failed: Vec<Error>,
}

impl Deployment {
    /// Puts right what others undid: a BPF file system that was unmounted, pins that were removed,
    /// filters that were taken off by force or had their program replaced. Interfaces that are gone
    /// are [`Self::follow`]'s business.
    pub fn repair(&mut self) -> Repaired {
        let mut mended = self.pins.restore();
        let links = match netlink::links() {
            Ok(links) => links,
            Err(error) => {
                mended.failed.push(error);
                return mended;
            }
        };
        let here = self.attached.iter_mut().zip(&mut self.attachments);
        for (attached, place) in here.filter(|(attached, _)| is_among(&links, attached)) {
            let result = mend_place(&self.pins, &mut self.programs, attached, place);
            match result {
                Ok(done) => mended.done.extend(done),
                Err(error) => mended.failed.push(error),
            }
        }
        mended
    }
}

/// Puts the program back where it stood, if something else stands there, or nothing.
fn mend_place(
    pins: &Pins,
    programs: &mut Programs,
    attached: &mut Attached,
    place: &mut Attachment,
) -> Result<Option<String>, Error> {
    let name = attached.interface.name.clone();
    match place.program()? {
        Some(found) if found == programs.id(place.hook)? => Ok(None),
        Some(_) => {
            place.replace(programs.of(place.hook)?)?;
            Ok(Some(format!(
                "the program on `{name}` was another: put this deployment's there again"
            )))
        }
        None => {
            place.clear()?;
            (*attached, *place) = programs.attach(pins, &attached.interface)?;
            Ok(Some(format!(
                "the filter was taken off `{name}`: put it there again"
            )))
        }
    }
}

fn is_among(links: &[netlink::Link], attached: &Attached) -> bool {
    links
        .iter()
        .any(|link| link.index == attached.interface.index)
}
