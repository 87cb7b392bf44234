//! The programs' own log, for debugging.
//!
//! The programs speak only if the log level was `debug` when they were loaded; otherwise the verifier
//! has removed the code.

use aya_log::EbpfLogger;
use log::{LevelFilter, Log};

use super::error::Error;

/// The name of the constant that sets how much the programs log.
pub(super) use aya_log::LEVEL;

/// How much the programs log: nothing below `debug`.
pub(super) fn level() -> u8 {
    match log::max_level() {
        LevelFilter::Debug => 4,
        LevelFilter::Trace => 5,
        _ => 0,
    }
}

/// The log of a deployed program.
pub struct Trace {
    log: EbpfLogger<&'static dyn Log>,
}

impl Trace {
    /// The log of the program with this id.
    pub(super) fn of(program: u32) -> Result<Self, Error> {
        let log = EbpfLogger::init_from_id(program);
        let log = log.map_err(|error| Error::failed("can't follow the programs' log", error))?;
        Ok(Self { log })
    }

    /// Passes on what was said since.
    pub fn flush(&mut self) {
        self.log.flush();
    }
}
