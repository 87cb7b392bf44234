//! Has a group enforce a bundle: some hosts first, then the rest, and back if one refuses it.

mod board;
mod first;
mod health;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use ipfilter_bundle::{Digest, KeyPair, Kind, Release, SignedRelease};
use jiff::Timestamp;
use log::warn;
use serde::Serialize;
use tokio::time::{Instant, timeout_at};

use crate::{
    outcome::{Exit, Format, Stop, operator, print, print_json},
    store::{Canary, Desired, Ended, Entry, Failure, How, Packed, Report, Seen, State, Store},
};
use board::Board;
use health::Baseline;

pub(crate) use first::{First, parse_first};

/// How far ahead of what is published here a host's generation may be and still count: as after etcd was restored
/// from a backup. A host that claims more is not believed.
pub(crate) const MOST_AHEAD: u64 = 1_000_000;

/// How a release is brought to the hosts.
#[derive(Clone, Debug)]
pub(crate) struct Rollout {
    /// Who gets it first.
    pub(crate) first: Option<First>,
    /// How long these have to stay well.
    pub(crate) soak: Duration,
    /// How long a host may take.
    pub(crate) timeout: Duration,
    /// By how many percentage points the share of denied packets may grow.
    pub(crate) max_denied_change: f64,
    /// Whether to wait for the hosts.
    pub(crate) waits: bool,
    /// How to print the outcome.
    pub(crate) format: Format,
}

impl Default for Rollout {
    fn default() -> Self {
        Self {
            first: None,
            soak: Duration::ZERO,
            timeout: Duration::from_secs(60),
            max_denied_change: 100.0,
            waits: true,
            format: Format::Text,
        }
    }
}

/// Publishes to a group.
#[derive(Debug)]
pub(crate) struct Publisher<'a> {
    /// What is kept of the group.
    pub(crate) store: &'a Store,
    /// The keys to sign with.
    pub(crate) keys: &'a [KeyPair],
}

/// What came of it, for programs.
#[derive(Debug, Serialize)]
struct Outcome<'a> {
    group: &'a str,
    generation: u64,
    digest: Digest,
    outcome: &'a str,
    /// The hosts that have it in force.
    hosts: usize,
    /// After how many seconds the last one had.
    seconds: f64,
    why: Option<&'a str>,
}

impl Publisher<'_> {
    /// Publishes a bundle: stores it, and brings it to the hosts.
    pub(crate) async fn publish(
        &self,
        seen: Seen,
        packed: &Packed,
        rollout: &Rollout,
    ) -> Result<Exit, Stop> {
        let mut board = Board::open(self.store).await?;
        let first = match &rollout.first {
            Some(first) => first.hosts(&board.hosts()).map_err(Stop::failed)?,
            None => Vec::new(),
        };
        self.store.upload(packed).await?;
        let release = self.release(&seen, &board, packed.digest).await?;
        let mut entry = self.entry(&release, How::Published(first.clone()));
        let mut rest = board.hosts();
        let begun = Instant::now();
        let before = seen.desired.stable.clone();
        let mut now = seen;
        if !first.is_empty() {
            let hosts: BTreeSet<_> = first.iter().cloned().collect();
            rest = rest.difference(&hosts).cloned().collect();
            let desired = Desired {
                stable: before.clone(),
                canary: Some(Canary {
                    release: release.clone(),
                    hosts: first,
                }),
            };
            let baseline = Baseline::of(&board, &hosts);
            now = self.flip(&now, &desired, &[entry.clone()]).await?;
            let tried = self
                .tried(&mut board, &release, &hosts, &baseline, rollout)
                .await;
            if let Err(why) = tried {
                return self.stop(now, before, entry, &why, rollout).await;
            }
        }
        let desired = Desired {
            stable: Some(release.clone()),
            canary: None,
        };
        if rollout.first.is_some() {
            entry.ended = Some(Ended::Promoted);
        }
        now = self.flip(&now, &desired, &[entry.clone()]).await?;
        self.say(rollout, &format!("published {}\n", release.release))?;
        if rollout.waits
            && let Err(why) = self
                .wait(&mut board, &release, &rest, rollout.timeout)
                .await
        {
            return self.stop(now, before, entry, &why, rollout).await;
        }
        let hosts = if rollout.waits {
            board.hosts().len()
        } else {
            0
        };
        self.done(&release, hosts, begun.elapsed(), rollout)?;
        self.collect(&now).await;
        Ok(Exit::Fine)
    }

    /// Brings back an earlier bundle.
    pub(crate) async fn back(
        &self,
        seen: Seen,
        digest: Digest,
        generation: u64,
        rollout: &Rollout,
    ) -> Result<Exit, Stop> {
        let mut board = Board::open(self.store).await?;
        let release = self.release(&seen, &board, digest).await?;
        let entry = self.entry(&release, How::Back(generation));
        let desired = Desired {
            stable: Some(release.clone()),
            canary: None,
        };
        let begun = Instant::now();
        self.flip(&seen, &desired, &[entry]).await?;
        self.say(
            rollout,
            &format!(
                "published {}, the bundle of generation {generation}\n",
                release.release
            ),
        )?;
        let hosts = board.hosts();
        match self
            .wait(&mut board, &release, &hosts, rollout.timeout)
            .await
        {
            Ok(()) => {
                self.done(&release, hosts.len(), begun.elapsed(), rollout)?;
                Ok(Exit::Fine)
            }
            Err(why) => Err(Stop::failed(format!("the group is to go back, but {why}"))),
        }
    }

    /// A release of the bundle, of a generation above all that there were.
    async fn release(
        &self,
        seen: &Seen,
        board: &Board<'_>,
        digest: Digest,
    ) -> Result<SignedRelease, Stop> {
        let history = self.store.history().await?;
        let published = history.iter().map(Entry::generation);
        let desired = seen.desired.releases().map(|it| it.generation);
        let known = published.chain(desired).max().unwrap_or_default();
        let reported = board.reports().map(|(host, report)| (host, report.highest));
        let mut highest = known;
        for (host, generation) in reported {
            if generation > known + MOST_AHEAD {
                warn!(
                    "`{host}` says that it has accepted generation {generation}, which is not believed"
                );
            } else {
                highest = highest.max(generation);
            }
        }
        let release = Release {
            group: self.store.group.clone(),
            kind: Kind::Bundle,
            generation: highest + 1,
            digest,
        };
        Ok(release.sign(self.keys))
    }

    fn entry(&self, release: &SignedRelease, how: How) -> Entry {
        Entry {
            release: release.clone(),
            at: Timestamp::now(),
            by: operator(),
            how,
            ended: None,
        }
    }

    async fn flip(&self, seen: &Seen, desired: &Desired, entries: &[Entry]) -> Result<Seen, Stop> {
        let (now, is_ours) = self.store.flip(seen, desired, entries).await?;
        if is_ours {
            return Ok(now);
        }
        let last = self.store.history().await?.pop();
        let by = last.map_or_else(String::new, |last| {
            format!(": {} published generation {}", last.by, last.generation())
        });
        Err(Stop::failed(format!(
            "somebody else has changed group `{}` meanwhile{by}: nothing was changed; look at `ipfilter fleet \
             status`, and publish again",
            self.store.group
        )))
    }

    /// Waits until the first hosts have it in force, and then whether they stay well.
    async fn tried(
        &self,
        board: &mut Board<'_>,
        release: &SignedRelease,
        hosts: &BTreeSet<String>,
        baseline: &Baseline,
        rollout: &Rollout,
    ) -> Result<(), String> {
        let names = hosts.iter().cloned().collect::<Vec<_>>().join(", ");
        let said = format!("trying {} at {names}\n", release.release);
        self.say(rollout, &said).map_err(|stop| stop.message)?;
        self.wait(board, release, hosts, rollout.timeout).await?;
        let end = Instant::now() + rollout.soak;
        let began = Baseline::of(board, hosts);
        let mut missing: BTreeMap<String, Instant> = BTreeMap::new();
        loop {
            for host in hosts {
                match board.report(host) {
                    Some(report) => {
                        missing.remove(host);
                        stays(release, host, report)?;
                        baseline.judge(&began, host, report, rollout.max_denied_change)?;
                    }
                    None => {
                        let since = *missing.entry(host.clone()).or_insert_with(Instant::now);
                        if since.elapsed() > rollout.timeout || Instant::now() >= end {
                            return Err(format!("`{host}` does not report any more"));
                        }
                    }
                }
            }
            if Instant::now() >= end {
                let unknown = baseline.unknown(hosts);
                if !unknown.is_empty() && rollout.max_denied_change < 100.0 {
                    warn!(
                        "too few packets to judge the share of denied ones: {}",
                        unknown.join(", ")
                    );
                }
                return Ok(());
            }
            board
                .changed(end.min(Instant::now() + Duration::from_secs(1)))
                .await;
        }
    }

    /// Waits until these hosts have a release in force; why not, if one refuses it or does not report in time.
    async fn wait(
        &self,
        board: &mut Board<'_>,
        release: &SignedRelease,
        hosts: &BTreeSet<String>,
        patience: Duration,
    ) -> Result<(), String> {
        let end = Instant::now() + patience;
        loop {
            let mut open = Vec::new();
            for host in hosts {
                let report = board.report(host);
                if let Some(why) = report.and_then(|report| refusal(release, report)) {
                    return Err(format!("`{host}` refused {}:\n{why}", release.release));
                }
                if !report.is_some_and(|report| has(release, report)) {
                    open.push((host, report));
                }
            }
            if open.is_empty() {
                return Ok(());
            }
            if Instant::now() >= end {
                let open: Vec<_> = open
                    .iter()
                    .map(|(host, report)| silence(host, *report))
                    .collect();
                return Err(format!(
                    "after {} s {} is not in force everywhere: {}",
                    patience.as_secs(),
                    release.release,
                    open.join("; ")
                ));
            }
            board.changed(end).await;
        }
    }

    /// Goes back to what there was before, and says why.
    async fn stop(
        &self,
        seen: Seen,
        before: Option<SignedRelease>,
        mut entry: Entry,
        why: &str,
        rollout: &Rollout,
    ) -> Result<Exit, Stop> {
        entry.ended = Some(Ended::Stopped(why.to_owned()));
        let failed = entry.generation();
        let Some(before) = before else {
            let desired = Desired::default();
            self.flip(&seen, &desired, &[entry]).await?;
            return Err(Stop::failed(format!(
                "{why}\nstopped: nothing was published before, so there is nothing to go back to; hosts that \
                 have generation {failed} in force keep it"
            )));
        };
        let digest = before.release.digest;
        let release = Release {
            generation: failed + 1,
            ..before.release.clone()
        };
        let release = release.sign(self.keys);
        let back = self.entry(&release, How::Back(before.release.generation));
        let desired = Desired {
            stable: Some(release.clone()),
            canary: None,
        };
        self.flip(&seen, &desired, &[entry, back]).await?;
        if rollout.format == Format::Json {
            print_json(&Outcome {
                group: self.store.group.as_str(),
                generation: release.release.generation,
                digest,
                outcome: "stopped",
                hosts: 0,
                seconds: 0.0,
                why: Some(why),
            })?;
        }
        Err(Stop::failed(format!(
            "{why}\nstopped: the group goes back to the bundle of generation {}, {digest:.12}, as generation {}",
            before.release.generation,
            failed + 1
        )))
    }

    fn say(&self, rollout: &Rollout, text: &str) -> Result<(), Stop> {
        match rollout.format {
            Format::Text => print(text),
            Format::Json => Ok(()),
        }
    }

    fn done(
        &self,
        release: &SignedRelease,
        hosts: usize,
        took: Duration,
        rollout: &Rollout,
    ) -> Result<(), Stop> {
        let release = &release.release;
        if rollout.format == Format::Json {
            return print_json(&Outcome {
                group: self.store.group.as_str(),
                generation: release.generation,
                digest: release.digest,
                outcome: if rollout.waits && hosts > 0 {
                    "in-force"
                } else {
                    "published"
                },
                hosts,
                seconds: took.as_secs_f64(),
                why: None,
            });
        }
        print(&match (rollout.waits, hosts) {
            (false, _) => {
                "not waiting for the hosts: `ipfilter fleet status` shows them\n".to_owned()
            }
            (true, 0) => {
                "no host reports to this group, so it is in force nowhere yet\n".to_owned()
            }
            (true, hosts) => format!(
                "in force at all {hosts} hosts that report, after {:.1} s\n",
                took.as_secs_f64()
            ),
        })
    }

    /// Removes what nothing names any more. It is no failure of the publication if that fails.
    async fn collect(&self, seen: &Seen) {
        let collecting = async {
            let history = self.store.shorten(self.store.history().await?).await?;
            let mut used: BTreeSet<_> =
                history.iter().map(|it| it.release.release.digest).collect();
            used.extend(seen.desired.releases().map(|it| it.digest));
            let (overrides, _) = self.store.overrides().await?;
            used.extend(overrides.map(|it| it.release.digest));
            for found in self.store.reports().await?.0 {
                used.extend(found.report.in_force.map(|it| it.digest));
                used.extend(found.report.overrides.map(|it| it.digest));
                used.extend(found.report.outcome.digest);
            }
            self.store.collect(&used, seen.revision).await
        };
        let collected: Result<usize, Failure> = collecting.await;
        if let Err(failure) = collected {
            warn!("what is not used any more stays in etcd: {failure}");
        }
    }
}

/// Whether the host has the release in force.
fn has(release: &SignedRelease, report: &Report) -> bool {
    let release = &release.release;
    report
        .in_force
        .is_some_and(|it| it.generation == release.generation && it.digest == release.digest)
}

/// Why the host refused the release, if it did.
fn refusal<'r>(release: &SignedRelease, report: &'r Report) -> Option<&'r str> {
    let outcome = &report.outcome;
    let is_of = outcome.generation == Some(release.release.generation);
    (is_of && outcome.state == State::Refused).then_some(outcome.why.as_str())
}

/// What a host says that does not have it in force in time.
fn silence(host: &str, report: Option<&Report>) -> String {
    match report {
        None => format!("`{host}` does not report any more"),
        Some(report) if !report.outcome.why.is_empty() => {
            format!("`{host}`: {}", report.outcome.why)
        }
        Some(report) if !report.problems.is_empty() => {
            format!("`{host}`: {}", report.problems.join("; "))
        }
        Some(_) => format!("`{host}` says nothing of it"),
    }
}

/// Whether a host that tried the release still has it and is well.
fn stays(release: &SignedRelease, host: &str, report: &Report) -> Result<(), String> {
    if let Some(why) = refusal(release, report) {
        return Err(format!("`{host}` refused {}:\n{why}", release.release));
    }
    if !has(release, report) {
        return Err(format!(
            "`{host}` has {} no longer in force",
            release.release
        ));
    }
    Ok(())
}

/// Waits for something until a time; nothing if that comes first.
pub(super) async fn until<T>(end: Instant, what: impl Future<Output = T>) -> Option<T> {
    timeout_at(end, what).await.ok()
}
