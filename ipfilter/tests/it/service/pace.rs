//! How soon overrides are in force, and how exactly they end, with many in place and many asked for.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    os::unix::net::UnixStream,
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::lab::{Lab, allow};

/// How many overrides are in place meanwhile, and how many are asked for at once to get there.
const IN_PLACE: u32 = 10_000;
const AT_ONCE: u32 = 500;

/// How often one is asked for, and for how long.
const EVERY: Duration = Duration::from_millis(10);
const ASKED: u32 = 2_000;

/// What must be reached: from asked for to in force, of 99 of 100; and from an end's time to the end.
const IN_FORCE: Duration = Duration::from_millis(1_500);
const ENDED: u64 = 20;

fn socket(lab: &Lab) -> PathBuf {
    lab.folder.join("run").join(lab.key()).join("control")
}

/// Asks for a block of the address with this number, which the policy lets in, until `until`.
fn ask(socket: &PathBuf, number: u32, until: Option<Timestamp>) -> BufReader<UnixStream> {
    // All over 64.0.0.0/2, as those that are banned are.
    let source = std::net::Ipv4Addr::from(0x4000_0000 | number.wrapping_mul(0x9e37_79b1) >> 2);
    let rule = json!({"effect": "block", "source": format!("{source}/32"), "api": null,
        "until": until, "reason": "pace"});
    let mut stream = UnixStream::connect(socket).expect("a daemon");
    writeln!(stream, "{}", json!({"override": {"add": rule}})).expect("a daemon");
    BufReader::new(stream)
}

fn answered(mut stream: BufReader<UnixStream>) {
    let mut line = String::new();
    stream.read_line(&mut line).expect("an answer");
    let answer: Value = serde_json::from_str(&line).expect("JSON");
    assert_eq!(answer["result"], "done", "{line}");
}

/// By how many milliseconds each override ended late, as the log has it.
fn late(log: &str) -> Vec<u64> {
    let lines = log.lines().filter(|line| line.contains("override ended, "));
    let late = lines.filter_map(|line| {
        let (before, _) = line.split_once(" ms ago")?;
        before.rsplit(' ').next()?.parse().ok()
    });
    late.collect()
}

#[test]
#[ignore = "measures for a minute or more, on a machine with nothing else to do"]
fn overrides_are_in_force_and_end_in_time_with_ten_thousand_in_place() {
    let lab = Lab::new("pace");
    let policy = lab.write("policy.json", allow(&["0.0.0.0/0", "::/0"]));
    let filter = lab.filter(&["--policy", &policy]);
    let socket = socket(&lab);
    for batch in 0..IN_PLACE / AT_ONCE {
        let asked = (0..AT_ONCE).map(|number| ask(&socket, batch * AT_ONCE + number, None));
        let asked: Vec<_> = asked.collect();
        asked.into_iter().for_each(answered);
    }
    // Ends while nothing is asked for.
    let ends = |first: u32| {
        let now = Timestamp::now();
        let ends = (0..10).map(|number| {
            let until = now + SignedDuration::from_secs(i64::from(8 + 2 * number));
            let until = Timestamp::from_second(until.as_second()).expect("a time");
            ask(&socket, first + number, Some(until))
        });
        let ends: Vec<_> = ends.collect();
        ends.into_iter().for_each(answered);
    };
    ends(IN_PLACE);
    thread::sleep(Duration::from_secs(30));
    let calm = late(&lab.log("run"));
    ends(IN_PLACE + 10);
    let start = Instant::now();
    let mut delays: Vec<Duration> = thread::scope(|scope| {
        let asked: Vec<_> = (0..ASKED)
            .map(|number| {
                let due = start + EVERY * number;
                thread::sleep(due.saturating_duration_since(Instant::now()));
                let asked = Instant::now();
                let stream = ask(&socket, IN_PLACE + 100 + number, None);
                scope.spawn(move || {
                    answered(stream);
                    asked.elapsed()
                })
            })
            .collect();
        asked
            .into_iter()
            .map(|one| one.join().expect("no panic"))
            .collect()
    });
    let rate = f64::from(ASKED) / start.elapsed().as_secs_f64();
    thread::sleep(Duration::from_secs(12));
    let all = late(&lab.log("run"));
    let busy = all.get(calm.len()..).unwrap_or_default();
    delays.sort_unstable();
    let at = |percent: usize| delays[(delays.len() - 1) * percent / 100];
    println!(
        "{IN_PLACE} in place, {rate:.0} asked for a second: in force after {:?} (median), {:?} (99 of \
         100), {:?} (the last); ended late by {calm:?} ms with nothing asked for, by {busy:?} ms meanwhile",
        at(50),
        at(99),
        at(100)
    );
    // One network loses, or several lose, access.
    let deployed = lab.log("run").matches(" lose").count();
    assert!(deployed > 30, "{deployed} deployments are no measure");
    assert!(at(99) <= IN_FORCE, "{:?}", at(99));
    assert!(all.iter().all(|late| *late <= ENDED), "{all:?}");
    lab.detach(filter);
}
