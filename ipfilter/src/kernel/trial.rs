//! A plan that is loaded but not attached, to run frames through its program.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::{
    callers::{self, Caller},
    counters::{Count, Counters},
    error::Error,
    interface::Interface,
    object::Object,
    proof::{Proof, Questions},
    reports::{Follower, Reader},
    shared,
    slots::Slots,
    steps::{self, Stepper},
    test_run::{Action, Kind, run},
    top_sources::{self, TopSource},
};
use crate::plan::Plan;

/// A plan that is loaded but not attached.
pub struct Trial {
    object: Object,
    program: OwnedFd,
    kind: Kind,
    apis: usize,
}

impl Trial {
    /// Loads `plan` with counters of its own.
    ///
    /// # Errors
    ///
    /// As for a deployment.
    pub fn load(plan: &Plan, kind: Kind) -> Result<Self, Error> {
        let mut object = Object::load(plan, None, 0)?;
        Ok(Self {
            program: object.program(kind.name())?,
            object,
            kind,
            apis: plan.apis.len(),
        })
    }

    /// The program's decision about an Ethernet frame, and the frame afterwards.
    ///
    /// # Errors
    ///
    /// When the kernel does not run it: frames must have at least 14 bytes.
    pub fn run(&self, frame: &[u8]) -> Result<(Action, Vec<u8>), Error> {
        run(&self.program, self.kind, frame)
    }

    /// The program, to be stepped through.
    ///
    /// # Errors
    ///
    /// When the kernel does not show what it has made of it.
    pub fn stepper(&self) -> Result<Stepper, Error> {
        let interface = Interface {
            name: "first".into(),
            index: steps::INTERFACE,
        };
        let [interfaces, counters] =
            [&shared::INTERFACES, &shared::COUNTERS].map(|map| self.object.share(map));
        Slots::new(interfaces?, counters?).assign(&[interface], &[])?;
        Stepper::new(&self.program)
    }

    /// Tests whether the program does what `plan` says, as a deployment tests its attached programs.
    ///
    /// # Errors
    ///
    /// Names the packet with the wrong verdict.
    pub fn prove(&self, plan: &Plan) -> Result<(), Error> {
        let proof = Proof::of(&Questions::of(plan), &[])?;
        proof.put_to(&self.program, self.kind, "no interface")
    }

    /// The counters so far.
    ///
    /// # Errors
    ///
    /// When they can't be read.
    pub fn counters(&self) -> Result<Vec<Count>, Error> {
        let [rows, interfaces] =
            [&shared::COUNTERS, &shared::INTERFACES].map(|map| self.object.shared(map));
        Counters::new(rows?, interfaces?).read(self.apis)
    }
}

/// The program's.
impl AsFd for Trial {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.program.as_fd()
    }
}

impl Trial {
    /// Begins to follow denied packets.
    ///
    /// # Errors
    ///
    /// When the reports can't be opened.
    pub fn follow_denials(&self, reader: Reader) -> Result<Follower, Error> {
        Follower::of(&self.object, reader)
    }

    /// The allowed sources, as [`super::Filter::callers`] has them.
    ///
    /// # Errors
    ///
    /// When they can't be read.
    pub fn callers(&self) -> Result<Vec<Caller>, Error> {
        callers::read(self.object.map_fd(shared::CALLERS.map)?)
    }

    /// The top denied sources, as [`super::Filter::top_sources`] has them.
    ///
    /// # Errors
    ///
    /// When they can't be read.
    pub fn top_sources(&self, most: usize) -> Result<Vec<TopSource>, Error> {
        top_sources::read(self.object.map_fd(shared::TOP_SOURCES.map)?, most)
    }
}
