//! A deployment's programs, loaded and verified, ready to be attached anywhere.

use std::os::fd::OwnedFd;

use super::{
    attachment::{AttachError, Attachment},
    error::Error,
    hook::{Hook, hooks},
    interface::Interface,
    netlink::Link,
    object::Object,
    pins::Pins,
    sys,
};
use crate::config::Mode;

/// A loaded plan's programs, one per hook that the mode may use, in order.
#[derive(Debug)]
pub(super) struct Programs {
    object: Object,
    by_hook: Vec<(Hook, Verified)>,
    /// Whether the plan answers any packets.
    answer: bool,
}

/// Not verified yet, a verified program, or why the kernel refused it.
type Verified = Option<Result<OwnedFd, String>>;

/// The best program of `object` that the kernel takes for `hook`.
fn verify(object: &mut Object, hook: Hook) -> Result<OwnedFd, Error> {
    let mut result = Err(Error::failed("no program", hook.name()));
    for name in hook.programs() {
        result = object.program(name);
        if !matches!(result, Err(Error::Failed { .. })) {
            break;
        }
    }
    result
}

impl Programs {
    /// Verifies the program for the first hook of `mode`. The others are verified when needed: each takes a
    /// tenth of a second, which most reloads don't need to spend.
    pub(super) fn load(object: Object, mode: Mode, answer: bool) -> Result<Self, Error> {
        let mut programs = Self {
            object,
            by_hook: hooks(mode).iter().map(|hook| (*hook, None)).collect(),
            answer,
        };
        for hook in hooks(mode) {
            match programs.of(*hook) {
                Err(error @ (Error::Refused(_) | Error::Exhausted(_))) => return Err(error),
                Err(_) => {}
                Ok(_) => return Ok(programs),
            }
        }
        Err(Error::failed(
            "the kernel refuses every program",
            programs.reasons().join("; "),
        ))
    }

    fn reasons(&self) -> Vec<String> {
        let failed = self.by_hook.iter().filter_map(|(hook, program)| {
            let reason = program.as_ref()?.as_ref().err()?;
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
    pub(super) fn of(&mut self, hook: Hook) -> Result<&OwnedFd, Error> {
        let found = self.by_hook.iter_mut().find(|(other, _)| *other == hook);
        let Some((_, verified)) = found else {
            return Err(Error::failed(
                "this deployment's mode does without",
                format!("`{}`", hook.name()),
            ));
        };
        if verified.is_none() {
            *verified = Some(match verify(&mut self.object, hook) {
                Err(error @ (Error::Refused(_) | Error::Exhausted(_))) => return Err(error),
                Err(error) => Err(error.to_string()),
                Ok(program) => Ok(program),
            });
        }
        match verified {
            Some(Ok(program)) => Ok(program),
            Some(Err(reason)) => Err(Error::failed(
                format!("there is no program for `{}`", hook.name()),
                reason.clone(),
            )),
            None => Err(Error::failed("there is no program", hook.name())),
        }
    }

    /// The id of the program for `hook`.
    pub(super) fn id(&mut self, hook: Hook) -> Result<u32, Error> {
        let identity = sys::identity(self.of(hook)?);
        let (_, id) = identity.map_err(|error| Error::io("can't look at a program", error))?;
        Ok(id)
    }

    /// Whether there is a program for `hook`.
    pub(super) fn has(&mut self, hook: Hook) -> Result<bool, Error> {
        match self.of(hook) {
            Ok(_) => Ok(true),
            // They say nothing about the hook.
            Err(error @ (Error::Refused(_) | Error::Exhausted(_))) => Err(error),
            Err(_) => Ok(false),
        }
    }

    /// Why answers from `hook` at this interface would be lost, if the plan sends any and they would.
    pub(super) fn loses_answers(
        &self,
        hook: Hook,
        interface: &Interface,
        links: &[Link],
    ) -> Result<Option<String>, Error> {
        let link = links.iter().find(|link| link.index == interface.index);
        match link.filter(|_| self.answer) {
            Some(link) => hook.loses_answers(link, links),
            None => Ok(None),
        }
    }

    /// Whether there are other hooks to choose from.
    pub(super) fn may_choose(&self) -> bool {
        self.by_hook.len() > 1
    }

    /// Attaches at the first hook that accepts the program and delivers what the plan needs.
    pub(super) fn attach(
        &mut self,
        pins: &Pins,
        interface: &Interface,
        links: &[Link],
    ) -> Result<Attachment, Error> {
        let mut passed_over = Vec::new();
        let mut ruled_out = Vec::new();
        let hooks: Vec<_> = self.by_hook.iter().map(|(hook, _)| *hook).collect();
        for hook in &hooks {
            if ruled_out.contains(hook) {
                continue;
            }
            // Another hook now is better than an interface without a filter until this can be answered.
            let lost = self.loses_answers(*hook, interface, links);
            let lost = lost.unwrap_or_else(|error| Some(error.to_string()));
            let reason = match (lost, self.of(*hook)) {
                (Some(lost), _) if hooks.len() > 1 => lost,
                // That says nothing about the hook.
                (_, Err(error @ Error::Exhausted(_))) => return Err(error),
                (_, Err(error)) => error.to_string(),
                (lost, Ok(program)) => match Attachment::attach(pins, *hook, program, interface) {
                    Ok(mut attachment) => {
                        attachment.passed_over = passed_over;
                        attachment.warnings.extend(lost);
                        return Ok(attachment);
                    }
                    Err(AttachError::Pin(error)) => return Err(error),
                    Err(AttachError::Hook(error)) => {
                        let others = hooks.iter().copied();
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
