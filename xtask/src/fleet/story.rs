//! What is done, what must come of it, and what did.

use std::{
    fmt::Write as _,
    process::Output,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use testkit::process::Interrupt;

use super::{
    Options,
    site::{ALLOWED, GUEST, Site},
    traffic::{self, Traffic},
};

/// How long what is published may take to be in force everywhere, when etcd loses members meanwhile.
const PATIENCE: &str = "60s";

/// What happened.
#[derive(Debug, Default)]
pub(super) struct Story {
    steps: Vec<Step>,
    /// How many seconds publications took to be in force everywhere.
    seconds: Vec<f64>,
    /// How long a block took from its command's end on.
    blocked: Option<Duration>,
}

#[derive(Debug)]
struct Step {
    name: &'static str,
    expected: String,
    seen: String,
    took: Duration,
}

impl Story {
    pub(super) fn rows(&self) -> Vec<Vec<String>> {
        let rows = self.steps.iter().map(|step| {
            let seen = step.seen.lines().collect::<Vec<_>>().join(" ");
            vec![
                step.name.to_owned(),
                step.expected.clone(),
                if step.is_well() {
                    "as expected".to_owned()
                } else {
                    format!("NOT: {seen}")
                },
                format!("{:.1}", step.took.as_secs_f64()),
            ]
        });
        rows.collect()
    }

    pub(super) fn wrong(&self) -> usize {
        self.steps.iter().filter(|step| !step.is_well()).count()
    }

    /// How long publications took.
    pub(super) fn times(&self) -> String {
        let mut sorted = self.seconds.clone();
        sorted.sort_by(f64::total_cmp);
        let at = |share: usize| {
            let index = (sorted.len() * share).div_ceil(100).saturating_sub(1);
            sorted.get(index).copied().unwrap_or_default()
        };
        let mut text = String::new();
        // Writing to a string does not fail.
        let _: std::fmt::Result = writeln!(
            text,
            "from publication to in force everywhere, {} times: median {:.2} s, p99 {:.2} s, longest {:.2} s",
            sorted.len(),
            at(50),
            at(99),
            at(100)
        );
        if let Some(blocked) = self.blocked {
            let seconds = blocked.as_secs_f64();
            // As above.
            let _: std::fmt::Result =
                writeln!(text, "a block was in force everywhere after {seconds:.2} s");
        }
        text
    }

    /// Does a step. What is seen is what was expected, or else.
    fn step(
        &mut self,
        name: &'static str,
        expected: impl Into<String>,
        what: impl FnOnce(&mut Vec<f64>) -> Result<String>,
    ) {
        eprintln!("── {name}");
        let (begun, expected) = (Instant::now(), expected.into());
        let seen = what(&mut self.seconds).unwrap_or_else(|error| format!("{error:#}"));
        self.steps.push(Step {
            name,
            expected,
            seen,
            took: begun.elapsed(),
        });
    }
}

impl Step {
    fn is_well(&self) -> bool {
        self.expected == self.seen
    }
}

/// A policy that allows the client and the guest, and so many prefixes besides, which differ by `variant`.
fn policy(prefixes: usize, variant: usize) -> String {
    let mut blocks = vec!["198.51.100.0/24".to_owned()];
    // From 16.0.0.0 on, none of which are special or the clients'. Every other /28, so that none can be joined.
    blocks.extend((1..prefixes).map(|index| {
        let base: usize = (16 << 24) + 16 * (2 * index + variant % 2);
        let [_, _, _, _, a, b, c, d] = base.to_be_bytes();
        format!("{a}.{b}.{c}.{d}/28")
    }));
    json!({"Version": "2012-10-17", "Id": format!("variant-{variant}"), "Statement": {"Effect": "Allow",
        "Principal": "*", "Action": "execute-api:Invoke", "Resource": "execute-api:/*",
        "Condition": {"IpAddress": {"aws:SourceIp": blocks}}}})
    .to_string()
}

/// What is at a place of a value; null if nothing is.
fn field<'v>(value: &'v Value, path: &str) -> &'v Value {
    value.pointer(path).unwrap_or(&Value::Null)
}

/// One session with the site.
struct Play<'s> {
    site: &'s mut Site,
    prefixes: usize,
    variant: usize,
}

impl Play<'_> {
    /// Publishes another policy, with these arguments besides.
    fn publish(&mut self, more: &[&str]) -> Result<Output> {
        self.variant += 1;
        let config = self
            .site
            .config("$public", &policy(self.prefixes, self.variant))?;
        let arguments = [
            "publish",
            "--yes",
            "--timeout",
            PATIENCE,
            "--format",
            "json",
            "--config",
            &config,
        ];
        self.site.run(&[&arguments[..], more].concat())
    }

    /// Publishes another policy that must be in force everywhere: what it came to.
    fn well(&mut self, more: &[&str], seconds: &mut Vec<f64>) -> Result<String> {
        let output = self.publish(more)?;
        let outcome: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        if !output.status.success() {
            return Ok(format!(
                "{}: {}",
                output.status,
                String::from_utf8_lossy(&output.stderr)
            ));
        }
        seconds.extend(field(&outcome, "/seconds").as_f64());
        self.converged(field(&outcome, "/generation").as_u64().unwrap_or_default())
    }

    /// Whether all hosts say that a generation is in force, and `fleet status` does.
    fn converged(&self, generation: u64) -> Result<String> {
        let begun = Instant::now();
        // Reports of health follow those of what is in force.
        let status = loop {
            let status = self.site.status();
            if *field(&status, "/converged") == true || begun.elapsed() > Duration::from_secs(20) {
                break status;
            }
            thread::sleep(Duration::from_millis(100));
        };
        let hosts = field(&status, "/hosts").as_array().context("no status")?;
        let has = |host: &&Value| *field(host, "/in_force/generation") == generation;
        let count = hosts.iter().filter(has).count();
        if *field(&status, "/converged") != true {
            return Ok(format!("not converged: {}", self.site.shown()?));
        }
        Ok(format!("generation {generation} at {count} hosts"))
    }
}

/// Plays it.
pub(super) fn play(site: &mut Site, options: &Options, interrupt: &Interrupt) -> Result<Story> {
    let mut story = Story::default();
    let hosts = site.hosts.len();
    let everywhere = |generation: u64| format!("generation {generation} at {hosts} hosts");
    let mut play = Play {
        site,
        prefixes: options.prefixes,
        variant: 0,
    };
    story.step(
        "a group that nothing was published to",
        "exit 1, and it is named",
        |_| {
            let output = play.publish(&[])?;
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            let is_told =
                output.status.code() == Some(1) && said.contains("there is no group `web` yet");
            Ok(if is_told {
                "exit 1, and it is named".into()
            } else {
                said
            })
        },
    );
    story.step("the first publication", everywhere(1), |seconds| {
        play.well(&["--create"], seconds)
    });
    play.site.watch_denials(ALLOWED)?;
    let traffic = Traffic::start(&play.site.allowed, &play.site.denied, &play.site.hosts)?;
    story.step(
        "one host first, then the others",
        everywhere(2),
        |seconds| {
            let seen = play.well(&["--canary", "1", "--soak", "2s"], seconds);
            // The soak is no time that it takes.
            seconds.pop();
            seen
        },
    );
    interrupt.check()?;
    story.step("an invalid policy", "exit 3, generation 2 stays", |_| {
        let config = play
            .site
            .config("$public", r#"{"Version": "2012-10-17", "Statement": []}"#)?;
        let output = play.site.run(&["publish", "--yes", "--config", &config])?;
        let stays = play.converged(2)? == everywhere(2);
        let code = output.status.code().unwrap_or_default();
        Ok(format!(
            "exit {code}, generation {} stays",
            if stays { 2 } else { 0 }
        ))
    });
    story.step(
        "one that the first host refuses",
        "exit 1 with its diagnostics; the bundle of generation 2 as generation 4",
        |_| {
            let config = play.site.config("$dmz", &policy(10, 0))?;
            let publish = [
                "publish", "--yes", "--canary", "host-03", "--soak", "1s", "--config", &config,
            ];
            let output = play.site.run(&publish)?;
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            let is_told = output.status.code() == Some(1)
                && said.contains("`host-03` refused generation 3")
                && said.contains("$dmz");
            let back = field(&play.site.status(), "/desired/digest").clone();
            let is_back = play.converged_later(4)? == everywhere(4) && back.is_string();
            Ok(match is_told && is_back {
                true => {
                    "exit 1 with its diagnostics; the bundle of generation 2 as generation 4".into()
                }
                false => format!("{said} {}", play.site.shown()?),
            })
        },
    );
    interrupt.check()?;
    story.step("the leader of etcd is killed", everywhere(5), |_| {
        let leader = play.site.etcd.leader()?;
        play.site.etcd.kill(leader);
        // An election is no time that it takes else.
        let seen = play.well(&[], &mut Vec::new());
        play.site.etcd.launch(leader)?;
        play.site.etcd.ready()?;
        seen
    });
    story.step("a member of etcd is cut off", everywhere(6), |_| {
        let leader = play.site.etcd.leader()?;
        let member = play
            .site
            .members
            .get(leader)
            .context("no such member")?
            .clone();
        member.cut()?;
        // An election is no time that it takes else.
        let seen = play.well(&[], &mut Vec::new());
        member.join()?;
        play.site.etcd.ready()?;
        seen
    });
    interrupt.check()?;
    story.step("etcd is gone", "told in a sentence, and all stays", |_| {
        for index in 0..play.site.etcd.len() {
            play.site.etcd.kill(index);
        }
        let output = play.publish(&[])?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        for index in 0..play.site.etcd.len() {
            play.site.etcd.launch(index)?;
        }
        play.site.etcd.ready()?;
        let is_told = output.status.code() == Some(1) && said.contains("etcd can't be reached");
        let stays = play.converged_later(6)?;
        Ok(match is_told && stays == everywhere(6) {
            true => "told in a sentence, and all stays".into(),
            false => format!("{said} {stays}"),
        })
    });
    let mut blocked = None;
    story.step("a source is blocked everywhere", "kept out by all", |_| {
        let output = play
            .site
            .run(&["block", &GUEST.to_string(), "--for", "1h"])?;
        let patience = Duration::from_secs(60);
        blocked = traffic::until_kept_out(&play.site.guest, &play.site.hosts, patience)?;
        Ok(match blocked {
            Some(_) => "kept out by all".into(),
            None => String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    });
    story.blocked = blocked;
    story.step("back to the bundle before", everywhere(7), |_| {
        let output = play.site.run(&["rollback", "--yes"])?;
        match output.status.success() {
            true => play.converged(7),
            false => Ok(String::from_utf8_lossy(&output.stderr).into_owned()),
        }
    });
    many(&mut story, &mut play, options.publishes, interrupt)?;
    judge(&mut story, &mut play, &traffic)?;
    println!("{}", play.site.shown()?);
    Ok(story)
}

impl Play<'_> {
    /// As [`Play::converged`], for what nobody waited for.
    fn converged_later(&self, generation: u64) -> Result<String> {
        let begun = Instant::now();
        loop {
            let status = self.site.status();
            let hosts = field(&status, "/hosts")
                .as_array()
                .map(Vec::as_slice)
                .unwrap_or_default();
            let has = |host: &Value| *field(host, "/in_force/generation") == generation;
            if !hosts.is_empty() && hosts.iter().all(has)
                || begun.elapsed() > Duration::from_secs(60)
            {
                return self.converged(generation);
            }
            thread::sleep(Duration::from_millis(100));
        }
    }
}

/// Publishes many times; every fourth time the leader of etcd is killed before, or a member cut off.
fn many(story: &mut Story, play: &mut Play<'_>, count: usize, interrupt: &Interrupt) -> Result<()> {
    let expected = format!("{count} in force at all hosts");
    let mut failed = Vec::new();
    let (begun, mut well) = (Instant::now(), 0);
    eprintln!("── {count} publications");
    for number in 0..count {
        interrupt.check()?;
        let mut struck = None;
        if number % 4 == 3 {
            let leader = play.site.etcd.leader()?;
            let member = play
                .site
                .members
                .get(leader)
                .context("no such member")?
                .clone();
            if number % 8 == 3 {
                play.site.etcd.kill(leader);
            } else {
                member.cut()?;
            }
            struck = Some((number % 8 == 3, leader, member));
        }
        let mut seconds = Vec::new();
        let seen = play.well(&[], &mut seconds)?;
        if let Some((is_killed, leader, member)) = struck {
            if is_killed {
                play.site.etcd.launch(leader)?;
            } else {
                member.join()?;
            }
            play.site.etcd.ready()?;
        } else {
            story.seconds.extend(seconds);
        }
        if seen
            == format!(
                "generation {} at {} hosts",
                8 + number,
                play.site.hosts.len()
            )
        {
            well += 1;
        } else {
            failed.push(format!("{}: {seen}", number + 1));
        }
    }
    story.steps.push(Step {
        name: "many publications, members of etcd killed and cut off",
        expected,
        seen: match failed.is_empty() {
            true => format!("{well} in force at all hosts"),
            false => failed.join("; "),
        },
        took: begun.elapsed(),
    });
    Ok(())
}

/// What the clients saw meanwhile, and whether the hosts are what they say.
fn judge(story: &mut Story, play: &mut Play<'_>, traffic: &Traffic) -> Result<()> {
    let denials = play.site.denials()?;
    let count = |counter: &AtomicU64| counter.load(Relaxed);
    let (let_in, kept_out) = (count(&traffic.seen.let_in), count(&traffic.seen.kept_out));
    let (failed, slipped) = (count(&traffic.seen.lost), count(&traffic.seen.slipped));
    println!(
        "{let_in} connections of a client that is always allowed, for which {} packets were sent twice; {kept_out} tries \
         of one that never is",
        traffic.repeated()?
    );
    let is_well = let_in > 0 && kept_out > 0 && denials.is_empty() && failed == 0 && slipped == 0;
    story.steps.push(Step {
        name: "traffic meanwhile",
        expected: "0 packets misjudged".to_owned(),
        seen: match is_well {
            true => "0 packets misjudged".to_owned(),
            false => format!(
                "{failed} connections failed of {let_in}, {slipped} were let in of {kept_out}, and denied were: {}",
                denials.join(" ")
            ),
        },
        took: Duration::ZERO,
    });
    let status = play.site.status();
    let hosts = field(&status, "/hosts").as_array().context("no status")?;
    let differing = hosts.iter().enumerate().filter(|(index, host)| {
        let said = field(host, "/in_force/generation").to_string();
        play.site.in_force(*index) != Some(said)
    });
    let differing: Vec<_> = differing
        .map(|(_, host)| field(host, "/host").to_string())
        .collect();
    story.steps.push(Step {
        name: "what hosts report is what they enforce",
        expected: "all do".to_owned(),
        seen: match differing.is_empty() {
            true => "all do".to_owned(),
            false => format!("not {}", differing.join(", ")),
        },
        took: Duration::ZERO,
    });
    Ok(())
}
