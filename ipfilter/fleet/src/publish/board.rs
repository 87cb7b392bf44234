//! What the hosts of a group report, as it comes in.

use std::collections::{BTreeMap, BTreeSet};

use log::warn;
use tokio::time::{Instant, sleep};

use super::until;
use crate::{
    etcd::{Changed, Watch},
    store::{Failure, Found, LAST, Report, Store, parse},
};

/// How long to wait until etcd is asked again.
const PAUSE: std::time::Duration = std::time::Duration::from_millis(300);

/// The reports of the hosts of a group.
#[derive(Debug)]
pub(crate) struct Board<'s> {
    store: &'s Store,
    /// By the host's name, and then by the id in the key.
    found: BTreeMap<String, BTreeMap<String, Found>>,
    watch: Option<Watch>,
}

impl<'s> Board<'s> {
    /// Reads them all.
    pub(super) async fn open(store: &'s Store) -> Result<Self, Failure> {
        let mut board = Self {
            store,
            found: BTreeMap::new(),
            watch: None,
        };
        board.read().await?;
        Ok(board)
    }

    /// Reads all reports anew, and watches from then on.
    async fn read(&mut self) -> Result<(), Failure> {
        let (_, revision) = self.store.client.get(&self.store.key("desired")).await?;
        self.found.clear();
        let (found, _) = self.store.reports().await?;
        found.into_iter().for_each(|found| self.put(found));
        let prefix = self.store.key("hosts/");
        self.watch = Some(self.store.client.watch(&[prefix], revision + 1).await?);
        Ok(())
    }

    fn put(&mut self, found: Found) {
        let of_host = self.found.entry(found.name.clone()).or_default();
        of_host.insert(found.id.clone(), found);
    }

    /// The names of the hosts that report.
    pub(super) fn hosts(&self) -> BTreeSet<String> {
        let is_live = |of_host: &BTreeMap<String, Found>| of_host.keys().any(|id| id != LAST);
        let live = self.found.iter().filter(|(_, of_host)| is_live(of_host));
        live.map(|(name, _)| name.clone()).collect()
    }

    /// All reports, those of hosts that are away included.
    pub(super) fn reports(&self) -> impl Iterator<Item = (&str, &Report)> {
        let all = self.found.values().flat_map(BTreeMap::values);
        all.map(|it| (it.name.as_str(), &it.report))
    }

    /// What a host reports; the newest, if several have its name.
    pub(super) fn report(&self, host: &str) -> Option<&Report> {
        let of_host = self.found.get(host)?.values().filter(|it| it.id != LAST);
        let newest = of_host.max_by_key(|it| it.revision)?;
        Some(&newest.report)
    }

    /// Waits until something has changed, or for the end.
    pub(super) async fn changed(&mut self, end: Instant) {
        let Some(watch) = &mut self.watch else {
            if let Err(failure) = self.read().await {
                warn!("{failure}");
                sleep(PAUSE).await;
            }
            return;
        };
        match until(end, watch.next_all()).await {
            None => {}
            Some(Ok(changes)) => changes.into_iter().for_each(|changed| self.take(changed)),
            Some(Err(failure)) => {
                warn!("{failure}; asking again");
                self.watch = None;
                self.store.client.reconnect().await;
            }
        }
    }

    fn take(&mut self, changed: Changed) {
        let prefix = self.store.key("hosts/");
        let name = changed.key().strip_prefix(&prefix);
        let name = name.and_then(|rest| rest.split_once('/'));
        let Some((name, id)) = name.map(|(name, id)| (name.to_owned(), id.to_owned())) else {
            return;
        };
        match changed {
            Changed::Deleted { .. } => {
                if let Some(of_host) = self.found.get_mut(&name) {
                    of_host.remove(&id);
                }
            }
            Changed::Put {
                key,
                value,
                revision,
            } => {
                if let Ok(report) = parse(&key, &value) {
                    self.put(Found {
                        name,
                        id,
                        report,
                        revision,
                    });
                }
            }
        }
    }
}
