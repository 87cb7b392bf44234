//! Everything that may happen to a filter, under continuous traffic: reloads, kills, restarts, another
//! version of the program, overrides, changes on trial, an interface that goes down, gets another name or is lent to
//! another network namespace, pins that vanish, system calls that fail. Not a packet may be misjudged.

mod operator;
mod traffic;

use std::{
    path::Path,
    sync::{
        Barrier,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use testkit::{netns::HOST, process::TICK};

use crate::lab::{GOOD, Lab, PATIENCE, allow, inside, wait_for};
use operator::{Doses, Operator, next};
use traffic::{SHORT, Signals, Tally, connect, datagrams, forge, receive, witness};

fn endure(tag: &str, mode: &str, doses: Doses) {
    let lab = Lab::new(tag);
    let policy = lab.write("policy.json", allow(&GOOD));
    let arguments = [
        "run",
        "--interface",
        "eth0",
        "--port",
        "80",
        "--udp",
        "--deny",
        "reject",
        "--mode",
        mode,
        "--policy",
        &policy,
    ];
    if doses.upgrades > 0 {
        next();
    }
    let signals = Signals::default();
    let tally = Tally::default();
    let ready = Barrier::new(2);
    let mut operator = Operator {
        lab: &lab,
        signals: &signals,
        tally: &tally,
        arguments: arguments.to_vec(),
        running: None,
        counter: 0,
    };
    operator.start(Path::new(env!("CARGO_BIN_EXE_ipfilter")));
    let start = Instant::now();
    thread::scope(|scope| {
        let (host, allowed, denied) =
            (&lab.network.host, &lab.network.allowed, &lab.network.denied);
        let (signals, tally) = (&signals, &tally);
        inside(scope, host, || witness(signals, tally));
        inside(scope, host, || receive(signals, &ready, &tally.received));
        // Before that, the host answers senders that the port is closed.
        ready.wait();
        let mut senders = Vec::new();
        for address in [HOST.v4, HOST.v6] {
            let send = || datagrams(address, signals, &tally.sent);
            senders.push(inside(scope, allowed, send));
            inside(scope, allowed, || {
                while !signals.stopped() {
                    signals.unless_paused(|| connect(address, PATIENCE, &tally.up, &tally.down));
                }
            });
            inside(scope, denied, || {
                while !signals.stopped() {
                    connect(address, SHORT, &tally.denied_up, &tally.denied_down);
                    thread::sleep(Duration::from_millis(1));
                }
            });
        }
        inside(scope, denied, || forge(signals, &tally.denied_sent));
        // The clients stop whatever happens to the operator.
        let acted = scope
            .spawn(|| {
                operator.act(doses);
                wait_for("enough of everything", || tally.is_telling());
            })
            .join();
        signals.stop.store(true, Relaxed);
        signals.pause.store(false, Relaxed);
        for sender in senders {
            sender.join().expect("it sends");
        }
        let start = Instant::now();
        let all = || tally.received.load(Relaxed) >= tally.sent.load(Relaxed);
        while !all() && start.elapsed() < PATIENCE {
            thread::sleep(TICK);
        }
        signals.deaf.store(true, Relaxed);
        if let Err(panic) = acted {
            std::panic::resume_unwind(panic);
        }
    });
    println!("{mode}, {:.1} s: {tally:?}", start.elapsed().as_secs_f64());
    let count = |counter: &AtomicU64| counter.load(Relaxed);
    assert_eq!(count(&tally.down), 0, "{tally:?}");
    assert_eq!(count(&tally.sent), count(&tally.received), "{tally:?}");
    assert_eq!(count(&tally.denied_up), 0, "{tally:?}");
    assert_eq!(count(&tally.denied_seen), 0, "{tally:?}");
    let (code, said) = lab.tell(&["detach"]);
    assert_eq!(code, Some(0), "{said}");
    lab.assert_nothing_is_left();
}

/// The witness is no use if it sees nothing at all.
#[test]
fn the_witness_sees_what_no_filter_stops() {
    let lab = Lab::new("witness");
    let signals = Signals::default();
    let tally = Tally::default();
    thread::scope(|scope| {
        let (signals, tally) = (&signals, &tally);
        inside(scope, &lab.network.host, || witness(signals, tally));
        inside(scope, &lab.network.denied, || {
            forge(signals, &tally.denied_sent);
        });
        let start = Instant::now();
        while tally.denied_seen.load(Relaxed) < 100 && start.elapsed() < PATIENCE {
            thread::sleep(Duration::from_millis(10));
        }
        signals.stop.store(true, Relaxed);
    });
    assert!(tally.denied_seen.load(Relaxed) >= 100, "{tally:?}");
}

#[test]
fn nothing_that_happens_to_a_native_filter_misjudges_a_packet() {
    let doses = Doses {
        reloads: 100,
        kills: 15,
        restarts: 4,
        upgrades: 2,
        flaps: 3,
        renames: 6,
        moves: 2,
        losses: 3,
        overrides: 2,
        trials: 2,
        faults: 4,
    };
    endure("native", "native", doses);
}

#[test]
fn nothing_that_happens_to_a_filter_in_traffic_control_misjudges_a_packet() {
    let doses = Doses {
        reloads: 15,
        kills: 4,
        restarts: 1,
        upgrades: 1,
        flaps: 1,
        renames: 2,
        moves: 2,
        losses: 1,
        overrides: 1,
        trials: 1,
        faults: 2,
    };
    endure("tc", "tc", doses);
}

/// Moves that are over before anybody has noticed, and gave the interface another number.
const MOVES: Doses = Doses {
    reloads: 0,
    kills: 0,
    restarts: 0,
    upgrades: 0,
    flaps: 0,
    renames: 0,
    moves: 8,
    losses: 0,
    overrides: 0,
    trials: 0,
    faults: 0,
};

#[test]
fn an_interface_that_was_away_for_a_moment_stays_filtered() {
    endure("away", "native", MOVES);
}

#[test]
fn so_does_one_that_is_filtered_in_traffic_control() {
    endure("awaytc", "tc", MOVES);
}
