//! Logging the packets that do not get through.

use std::{collections::HashMap, io};

use anyhow::Context as _;
use log::info;

use super::readable::Readable;
use crate::state::Deployed;
use crate::{
    kernel::{Denial, Filter, Follower, Reader},
    view::event::DeniedEvent,
};

/// What is logged of packets that do not get through.
pub(super) struct Denials {
    follower: Follower,
    readable: Readable,
    /// Names by number.
    interfaces: HashMap<u32, String>,
}

impl Denials {
    /// Begins to follow. Needs a runtime to be entered.
    pub(super) fn follow(filter: &Filter) -> anyhow::Result<Self> {
        let follower = filter.follow_denials(Reader::Log)?;
        let readable = Readable::new(follower.descriptor()?).context("can't wait for events")?;
        Ok(Self {
            follower,
            readable,
            interfaces: HashMap::new(),
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

    /// Logs it.
    pub(super) fn log(&mut self, denial: &Denial, filter: &Filter, deployed: Option<&Deployed>) {
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
        let text = |value: Option<String>| value.unwrap_or_default();
        info!(
            interface = event.interface,
            api = text(event.api.clone()),
            verdict = event.verdict,
            reason = event.reason,
            protocol = event.protocol.unwrap_or_default(),
            source = text(event.source.map(|source| source.to_string())),
            source_port = event.source_port.unwrap_or_default(),
            port = event.port.unwrap_or_default();
            "denied: {}", event.untimed()
        );
    }

    /// Logs how many packets were not logged one by one since this was last done, if any.
    pub(super) fn log_unreported(&mut self) {
        if let Ok(unreported @ 1..) = self.follower.unreported() {
            info!(unreported; "denied: {unreported} more, not logged one by one");
        }
    }
}
