//! What a policy would have done to recorded traffic. Opens no file.

use std::{cell::OnceCell, collections::HashMap};

use anyhow::Context as _;
use ipfilter_traffic::{Decision, Judge, Judged, Tally, log::Record};
use jiff::Timestamp;

use crate::{
    kernel::{Action, Kind, Trial},
    plan::{Deny, Plan, Protocol},
    policy::{self, Request},
    prepare::Policies,
};

/// Periods whose tables are kept: traffic may go back and forth over a boundary of time.
const MOST_PERIODS: usize = 16;

/// The longest frame that a program of traffic control is surely run on.
const LONGEST: usize = 3_000;

/// The shortest frame that the kernel runs a program on.
const SHORTEST: usize = 14;

/// Policies, as tables for each time that traffic has.
pub(crate) struct Periods {
    policies: Policies,
    /// Judge everything at this time.
    fixed: Option<Timestamp>,
    /// The time of records that have none.
    now: Timestamp,
    kernel: bool,
    /// By the end of their period.
    judges: HashMap<Option<Timestamp>, Period>,
    /// The period of the last record: from a time on, and until it ends.
    last: Option<(Timestamp, Option<Timestamp>)>,
}

/// The tables that hold for some time.
pub(crate) struct Period {
    pub(crate) judge: Judge,
    kernel: Option<Kernel>,
}

/// The same plan in the kernel.
struct Kernel {
    /// Takes microseconds, but not every frame.
    quick: Trial,
    /// Takes milliseconds; loaded once a frame needs it.
    any: OnceCell<Trial>,
    plan: Plan,
}

/// What the kernel did with the packets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Agreement {
    /// Packets that it was given.
    pub(crate) packets: u64,
    /// Those too short for a test run.
    pub(crate) skipped: u64,
    /// Those about which it decided something else.
    pub(crate) different: u64,
    /// The first of them.
    pub(crate) example: Option<String>,
}

impl Periods {
    pub(crate) fn new(policies: Policies, fixed: Option<Timestamp>, kernel: bool) -> Self {
        Self {
            policies,
            fixed,
            now: Timestamp::now(),
            kernel,
            judges: HashMap::new(),
            last: None,
        }
    }

    /// The names of the APIs, by index.
    pub(crate) fn names(&self) -> Vec<String> {
        let apis = self.policies.spec().apis.iter();
        apis.map(|api| api.name.clone()).collect()
    }

    /// The decision about a whole request at this stage, whose source was judged so: the policy's, as `explain
    /// --request` has it. What the log does not say of a request is absent.
    pub(crate) fn request(&self, record: &Record<'_>, stage: &str, judged: Judged) -> Judged {
        let policy = judged.api.and_then(|api| self.policies.policy(api));
        let known = (
            policy,
            record.source,
            record.method.as_ref(),
            record.path.as_ref(),
        );
        let (Some(policy), Some(source), Some(method), Some(path)) = known else {
            return judged;
        };
        if judged.decision == Decision::Deny {
            return judged;
        }
        let mut request = Request::new(source, method.as_ref());
        stage.clone_into(&mut request.stage);
        let path = path.split(['?', '#']).next().unwrap_or_default();
        path.clone_into(&mut request.path);
        request.time = Some(self.fixed.or(record.time).unwrap_or(self.now));
        let headers = [
            ("User-Agent", &record.user_agent),
            ("Referer", &record.referer),
        ];
        for (name, value) in headers {
            if let Some(value) = value {
                request
                    .headers
                    .insert(name.to_owned(), value.as_ref().to_owned());
            }
        }
        let (decision, reason) = match policy.decide(&request).decision {
            policy::Decision::Allow => (Decision::Allow, judged.reason),
            policy::Decision::Depends => (Decision::Depends, judged.reason),
            policy::Decision::Deny => (Decision::Deny, "request_denied"),
        };
        Judged {
            decision,
            reason,
            ..judged
        }
    }

    /// The tables that hold when a record was written.
    pub(crate) fn at(&mut self, time: Option<Timestamp>) -> anyhow::Result<&Period> {
        let time = self.fixed.or(time).unwrap_or(self.now);
        let end = match self.last {
            Some((from, end)) if time >= from && end.is_none_or(|end| time < end) => end,
            _ => {
                let end = self.policies.next_boundary(time);
                self.last = Some((time, end));
                end
            }
        };
        if !self.judges.contains_key(&end) {
            let period = self.period(time)?;
            if self.judges.len() >= MOST_PERIODS {
                self.judges.clear();
            }
            self.judges.insert(end, period);
        }
        self.judges.get(&end).context("no period")
    }

    fn period(&self, time: Timestamp) -> anyhow::Result<Period> {
        let plan = self.policies.plan(time)?;
        let apis = 0..plan.apis.len();
        let allowed = apis.filter_map(|api| Some(self.policies.policy(api)?.at(time).allowed));
        Ok(Period {
            judge: Judge::new(&plan, allowed.collect())?,
            kernel: self.kernel.then(|| Kernel::load(plan)).transpose()?,
        })
    }
}

impl Kernel {
    fn load(mut plan: Plan) -> anyhow::Result<Self> {
        // What denied sources are answered is not what is asked here.
        for api in &mut plan.apis {
            api.deny = Deny::Drop;
        }
        plan.events = 0;
        plan.callers = 0;
        Ok(Self {
            quick: Trial::load(&plan, Kind::Tc)?,
            any: OnceCell::new(),
            plan,
        })
    }

    fn any(&self) -> anyhow::Result<&Trial> {
        match self.any.get() {
            Some(loaded) => Ok(loaded),
            None => {
                let loaded = Trial::load(&self.plan, Kind::XdpFrags)?;
                Ok(self.any.get_or_init(|| loaded))
            }
        }
    }
}

/// Whether the kernel runs a program of traffic control on a frame: it must fit a page, and have the whole IP
/// header that it announces (`bpf_prog_test_run_skb`). A program for XDP takes the others.
fn is_socket_buffer(frame: &[u8]) -> bool {
    let header = match frame.get(12..14) {
        Some([0x08, 0x00]) => 20,
        Some([0x86, 0xdd]) => 40,
        _ => 1,
    };
    (SHORTEST + header..=LONGEST).contains(&frame.len())
}

impl Period {
    /// Has the kernel decide about a frame, and compares.
    pub(crate) fn compare(
        &self,
        frame: &[u8],
        judged: &Judged,
        agreement: &mut Agreement,
    ) -> anyhow::Result<()> {
        let Some(kernel) = &self.kernel else {
            return Ok(());
        };
        if frame.len() < SHORTEST {
            agreement.skipped += 1;
            return Ok(());
        }
        let trial = if is_socket_buffer(frame) {
            &kernel.quick
        } else {
            kernel.any()?
        };
        let (action, _) = trial.run(frame)?;
        agreement.packets += 1;
        if (action == Action::Pass) != judged.passes {
            agreement.different += 1;
            agreement
                .example
                .get_or_insert_with(|| format!("{judged:?}, but the kernel's program: {action:?}"));
        }
        Ok(())
    }

    /// Decides about a line of a log; `api` is the one that was asked for. None if it does not say which API it
    /// is about, and there are several.
    pub(crate) fn record(
        &self,
        record: &Record<'_>,
        api: Option<usize>,
        any_port: bool,
        apis: usize,
    ) -> Option<Judged> {
        let other = Judged {
            decision: Decision::Other,
            api: None,
            reason: "other_port",
            source: record.source,
            passes: true,
            in_the_dark: false,
        };
        let Some(source) = record.source.filter(|_| !record.portless) else {
            return Some(Judged {
                reason: "other_protocol",
                ..other
            });
        };
        let only = (apis == 1).then_some(0);
        let api = match (api, record.port) {
            (Some(api), _) => Some(api),
            (None, Some((Some(Protocol::Udp), port))) => self.judge.api(Protocol::Udp, port),
            (None, Some(_)) if any_port => only,
            (None, Some((_, port))) => self.judge.api(Protocol::Tcp, port),
            (None, None) => Some(only?),
        };
        Some(api.map_or(other, |api| self.judge.request(api, source)))
    }
}

/// The outcome of a replay.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) tally: Tally,
    pub(crate) agreement: Agreement,
}
