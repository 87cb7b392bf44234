//! A deployment's programs, loaded and verified, ready to be attached anywhere.

use std::os::fd::OwnedFd;

use super::{
    error::Error,
    filter::Attached,
    hook::{Hook, Mode},
    interface::Interface,
    object::Object,
    pins::Pins,
    place::{AttachError, Place},
    sys,
};

/// For each hook that a mode may use, in order: the program, or why there is none.
#[derive(Debug)]
pub(super) struct Programs {
    by_hook: Vec<(Hook, Result<OwnedFd, String>)>,
}

impl Programs {
    /// Has the kernel verify what `mode` may need.
    pub(super) fn load(object: &mut Object, mode: Mode) -> Result<Self, Error> {
        let mut by_hook = Vec::new();
        for hook in mode.hooks() {
            let program = match hook.program(object) {
                Err(error @ Error::Refused(_)) => return Err(error),
                Err(error) => Err(error.to_string()),
                Ok(program) => Ok(program),
            };
            by_hook.push((*hook, program));
        }
        let programs = Self { by_hook };
        if programs.by_hook.iter().all(|(_, program)| program.is_err()) {
            return Err(Error::failed(
                "the kernel takes none of the programs",
                programs.reasons().join("; "),
            ));
        }
        Ok(programs)
    }

    fn reasons(&self) -> Vec<String> {
        let failed = self.by_hook.iter().filter_map(|(hook, program)| {
            let reason = program.as_ref().err()?;
            Some(format!("{}: {reason}", hook.name()))
        });
        failed.collect()
    }

    /// How many hooks are tried before `hook`.
    pub(super) fn rank(&self, hook: Hook) -> usize {
        let position = self.by_hook.iter().position(|(other, _)| *other == hook);
        position.unwrap_or(self.by_hook.len())
    }

    /// The program for `hook`.
    pub(super) fn of(&self, hook: Hook) -> Result<&OwnedFd, Error> {
        let found = self.by_hook.iter().find(|(other, _)| *other == hook);
        match found {
            Some((_, Ok(program))) => Ok(program),
            Some((_, Err(reason))) => Err(Error::failed(
                format!("there is no program for `{}`", hook.name()),
                reason.clone(),
            )),
            None => Err(Error::failed(
                "this deployment's mode does without",
                format!("`{}`", hook.name()),
            )),
        }
    }

    /// The id of the program for `hook`.
    pub(super) fn id(&self, hook: Hook) -> Result<u32, Error> {
        let identity = sys::identity(self.of(hook)?);
        let (_, id) = identity.map_err(|error| Error::io("can't look at a program", error))?;
        Ok(id)
    }

    /// Attaches at the first hook that takes the program.
    pub(super) fn attach(
        &self,
        pins: &Pins,
        interface: &Interface,
    ) -> Result<(Attached, Place), Error> {
        let mut passed_over = Vec::new();
        let mut ruled_out = Vec::new();
        for (hook, program) in &self.by_hook {
            if ruled_out.contains(hook) {
                continue;
            }
            let reason = match program {
                Err(reason) => reason.clone(),
                Ok(program) => match Place::attach(pins, *hook, program, interface.index) {
                    Ok(place) => {
                        let attached = Attached {
                            interface: interface.clone(),
                            hook: *hook,
                            passed_over,
                        };
                        return Ok((attached, place));
                    }
                    Err(AttachError::Pin(error)) => return Err(error),
                    Err(AttachError::Hook(error)) => {
                        let others = self.by_hook.iter().map(|(other, _)| *other);
                        ruled_out.extend(others.filter(|other| hook.rules_out(*other, &error)));
                        hook.explain(&error, interface.index)
                    }
                },
            };
            passed_over.push(format!("{}: {reason}", hook.name()));
        }
        Err(Error::failed(
            format!("can't attach to `{}`", interface.name),
            passed_over.join("; "),
        ))
    }
}
