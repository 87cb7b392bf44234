//! Logging and keeping the packets that do not get through.

use std::{
    collections::HashMap,
    io, mem,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use anyhow::Context as _;
use jiff::Timestamp;
use log::{error, info};
use serde::Serialize;

use super::readable::Readable;
use crate::{
    config::{Config, Recording},
    instance::Instance,
    kernel::{Denial, Filter, Follower, Reader},
    state::{Deployed, record},
    view::event::{DeniedEvent, Unreported},
};

/// What is logged of packets that do not get through.
pub(super) struct Denials {
    follower: Follower,
    readable: Readable,
    /// Names by number.
    interfaces: HashMap<u32, String>,
    /// Lines to be kept, that are not written yet.
    lines: String,
    /// Whether the last ones could not be written.
    failing: Arc<AtomicBool>,
}

/// What is to be done with packets.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted {
    log: bool,
    record: bool,
}

impl Wanted {
    /// What a configuration asks for.
    pub(super) fn by(spec: &Config) -> Self {
        Self {
            log: spec.log_denied,
            record: spec.record.is_some(),
        }
    }
}

/// The bytes of lines that may wait to be written: more than come in a second.
const WAITING: usize = 16 << 20;

impl Denials {
    /// Begins to follow. Needs a runtime to be entered.
    pub(super) fn follow(filter: &Filter) -> anyhow::Result<Self> {
        let follower = filter.follow_denials(Reader::Log)?;
        let readable = Readable::new(follower.descriptor()?).context("can't wait for events")?;
        Ok(Self {
            follower,
            readable,
            interfaces: HashMap::new(),
            lines: String::new(),
            failing: Arc::default(),
        })
    }

    /// Whether it still follows what is deployed.
    pub(super) fn is_live(&self) -> bool {
        self.follower.is_live()
    }

    /// Waits for the next one.
    pub(super) async fn next(&mut self) -> anyhow::Result<Denial> {
        let follower = &mut self.follower;
        let take = |_: &_| {
            let next = follower.next_denial();
            next.ok_or_else(|| io::ErrorKind::WouldBlock.into())
        };
        Ok(self.readable.read(take).await?)
    }

    /// Logs it, and has it kept.
    pub(super) fn take(
        &mut self,
        denial: &Denial,
        wanted: Wanted,
        filter: &Filter,
        deployed: Option<&Deployed>,
    ) {
        if !self.interfaces.contains_key(&denial.interface) {
            self.interfaces = filter.interface_names().unwrap_or_default();
        }
        let interface = self.interfaces.get(&denial.interface);
        let apis = deployed.map(|deployed| deployed.apis.as_slice());
        let api = denial.api.and_then(|api| apis?.get(api as usize));
        let event = DeniedEvent::new(
            denial,
            interface.map(String::as_str),
            api.map(|api| api.name.as_str()),
        );
        if wanted.record {
            self.keep(&event);
        }
        if wanted.log {
            log(&event);
        }
    }

    /// Adds a line to those that are to be kept.
    fn keep(&mut self, what: &impl Serialize) {
        if self.lines.len() < WAITING
            && let Ok(line) = serde_json::to_string(what)
        {
            self.lines.push_str(&line);
            self.lines.push('\n');
        }
    }

    /// What writes down the lines that are to be kept and are not written yet; none if there are none.
    pub(super) fn keeper(
        &mut self,
        instance: &Instance,
        recording: Recording,
    ) -> Option<impl FnOnce() + Send + use<>> {
        let lines = mem::take(&mut self.lines);
        let (instance, failing) = (instance.clone(), Arc::clone(&self.failing));
        (!lines.is_empty()).then_some(move || {
            // A full disk must not fill the log as well.
            match record(&instance, recording, &lines, Timestamp::now()) {
                Err(failure) if !failing.swap(true, Ordering::Relaxed) => {
                    error!("denied packets are not kept until this works again: {failure:#}");
                }
                Ok(()) if failing.swap(false, Ordering::Relaxed) => {
                    info!("denied packets are kept again");
                }
                _ => {}
            }
        })
    }

    /// Notes how many packets were not reported one by one since this was last done, if any.
    pub(super) fn count_unreported(&mut self, wanted: Wanted) {
        if let Ok(unreported @ 1..) = self.follower.unreported() {
            if wanted.record {
                self.keep(&Unreported {
                    time: Timestamp::now(),
                    unreported,
                });
            }
            if wanted.log {
                info!(unreported; "denied: {unreported} more, not logged one by one");
            }
        }
    }
}

fn log(event: &DeniedEvent) {
    let text = |value: Option<String>| value.unwrap_or_default();
    info!(
        interface = event.interface,
        api = text(event.api.clone()),
        verdict = &*event.verdict,
        reason = &*event.reason,
        protocol = event.protocol.as_deref().unwrap_or_default(),
        source = text(event.source.map(|source| source.to_string())),
        source_port = event.source_port.unwrap_or_default(),
        port = event.port.unwrap_or_default();
        "denied: {}", event.untimed()
    );
}
