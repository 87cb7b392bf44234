//! The corpus once more: every probe as a packet through the loaded program.
//!
//! The policies are the APIs of a few plans, each on a port of its own, so that one run asks for one
//! policy's answer in the presence of many.

use std::net::IpAddr;

use ipfilter::{
    kernel::{Action, Kind, Trial},
    plan::{Api, Deny, Lookup, Plan, Protocols},
    policy::{Options, Policy, Source, parse},
};
use jiff::Timestamp;

use super::verdicts::equivalence::{api, load_one};
use crate::{
    corpus::{Case, EXACT, PARTIAL, Probe, TIME, lines},
    frames,
};

/// APIs in one plan (design: a bit each).
const APIS: usize = 64;
/// The first API's port; the next ones follow.
const FIRST_PORT: u16 = 1000;

/// A policy at a time, and who may pass it.
struct Question<'c> {
    name: &'c str,
    policy: Policy,
    now: Timestamp,
    passes: Vec<(IpAddr, bool)>,
}

impl Question<'_> {
    fn api(&self, port: u16) -> Api {
        let sources = self.policy.at(self.now).may_pass;
        let name = format!("{} {}", self.name, self.now);
        let ports = port.to_string();
        api(&name, &ports, Protocols::TCP, Deny::Drop, sources)
    }
}

fn policy(case: &Case<'_>) -> Policy {
    let source = Source::new(case.name, case.policy.get().as_bytes());
    let parsed = parse(&source, &Options::default());
    parsed.policy.expect("a legal policy")
}

/// Asks the loaded programs, with either table of sources, and returns how many questions there were.
fn ask(questions: &[Question<'_>]) -> usize {
    let mut asked = 0;
    for questions in questions.chunks(APIS) {
        let ports = FIRST_PORT..;
        let apis = ports.clone().zip(questions);
        let apis = apis.map(|(port, question)| question.api(port)).collect();
        let mut plan = Plan::new(apis, Vec::new()).expect("a plan");
        for lookup in [Lookup::Trie, Lookup::Intervals] {
            plan.lookup = lookup;
            // A test run of traffic control takes microseconds, one of XDP milliseconds.
            let trial = load_one(&plan, Kind::Tc);
            for (port, question) in ports.clone().zip(questions) {
                ask_one(&trial, port, question);
            }
            // The kinds of program share the decision; a probe of each policy shows that they share
            // the tables too.
            let trial = load_one(&plan, Kind::XdpFrags);
            for (port, question) in ports.clone().zip(questions) {
                let first = question.passes.first().expect("a probe");
                assert_passes(&trial, port, question, *first);
            }
        }
        let probes = questions.iter().map(|question| question.passes.len());
        asked += probes.sum::<usize>();
    }
    asked
}

fn ask_one(trial: &Trial, port: u16, question: &Question<'_>) {
    for probe in &question.passes {
        assert_passes(trial, port, question, *probe);
    }
}

fn assert_passes(
    trial: &Trial,
    port: u16,
    question: &Question<'_>,
    (source, passes): (IpAddr, bool),
) {
    let frame = frames::syn_frame(source, port);
    let (action, _) = trial.run(&frame).expect("the kernel runs the program");
    let want = if passes { Action::Pass } else { Action::Drop };
    assert_eq!(action, want, "{} {source} {}", question.name, question.now);
}

#[test]
fn the_programs_answer_exact_policies_exactly() {
    let now: Timestamp = "2026-06-01T00:00:00Z".parse().unwrap();
    let questions: Vec<_> = lines::<Case<'_>>(EXACT)
        .map(|case| Question {
            name: case.name,
            policy: policy(&case),
            now,
            passes: case.probes.iter().map(answer).collect(),
        })
        .collect();
    assert_eq!(ask(&questions), 2511);
}

fn answer(probe: &Probe) -> (IpAddr, bool) {
    (probe.source, probe.expected == "allow")
}

/// Each probe has its own time, and so its own plan: an API for each.
#[test]
fn the_programs_honour_the_clock() {
    let mut questions = Vec::new();
    for case in lines::<Case<'_>>(TIME) {
        let mut times: Vec<_> = case.probes.iter().filter_map(|probe| probe.time).collect();
        times.sort_unstable();
        times.dedup();
        for now in times {
            let probes = case.probes.iter();
            questions.push(Question {
                name: case.name,
                policy: policy(&case),
                now,
                passes: probes
                    .filter(|probe| probe.time == Some(now))
                    .map(answer)
                    .collect(),
            });
        }
    }
    assert_eq!(ask(&questions), 204);
}

#[test]
fn the_programs_drop_what_is_surely_denied_and_nothing_else() {
    let now = Timestamp::now();
    let questions: Vec<_> = lines::<Case<'_>>(PARTIAL)
        .map(|case| {
            let denied = case.must_drop.iter().chain(&case.must_drop_relational);
            let denied = denied.map(|source| (*source, false));
            let passing = case.must_pass.iter().map(|pass| (pass.source, true));
            Question {
                name: case.name,
                policy: policy(&case),
                now,
                passes: denied.chain(passing).collect(),
            }
        })
        .collect();
    let probes: usize = questions.iter().map(|question| question.passes.len()).sum();
    assert!(probes > questions.len());
    assert_eq!(ask(&questions), probes);
}
