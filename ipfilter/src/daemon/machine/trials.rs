//! Plans that are on trial, and what may be done meanwhile.

use std::mem;

use super::{Effect, Job, Machine, Task};
use crate::state::{Purpose, Requester};

impl<P> Machine<P> {
    /// Ends a trial before anything else that waits. Once is enough.
    pub(super) fn go_back(&mut self, job: Job) -> Vec<Effect<P>> {
        let ready = self.ready.as_ref().map(|ready| &ready.job);
        let mut jobs = self.queue.iter().chain(&self.running).chain(ready);
        let is_asked = jobs.any(|job| matches!(job.task, Task::Return(_)));
        if self.trial.is_some() && !is_asked {
            self.queue.push_front(job);
        }
        Vec::new()
    }

    /// Why a job is not even begun, if it is not.
    pub(super) fn refusal(&self, task: Task) -> Option<&'static str> {
        match (task, self.trial) {
            (Task::Reload(_) | Task::Release | Task::Detach, Some(Purpose::Change)) => Some(
                "a change waits for its confirmation: `ipfilter confirm` keeps it, `ipfilter rollback` \
                 rolls it back; then try again",
            ),
            (Task::Reload(_) | Task::Release | Task::Detach, Some(Purpose::Pause)) => Some(
                "the filter is detached for a while: attach it again with `ipfilter rollback`, then \
                 try again",
            ),
            (Task::Confirm, Some(Purpose::Pause)) => Some(
                "there is nothing to confirm: the filter is detached for a while. `ipfilter rollback` \
                 attaches it at once, `ipfilter detach` detaches it for good",
            ),
            (Task::Confirm, None) => Some(
                "there is nothing to confirm: no change waits for it, or its time was over and it was \
                 rolled back. `ipfilter status` shows what is in force",
            ),
            _ => None,
        }
    }

    /// Ends the trial, and what waited for that.
    pub(super) fn settle_trial(&mut self, is_confirmed: bool, effects: &mut Vec<Effect<P>>) {
        self.trial = None;
        if self.ending {
            effects.push(Effect::End);
        } else if mem::take(&mut self.unread) && is_confirmed {
            self.queue
                .push_back(Job::new(Task::ReloadIfChanged, Requester::FileWatch));
        }
    }
}
