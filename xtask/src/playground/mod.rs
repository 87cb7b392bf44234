//! The embedded demonstration: the main job of `ipfilter`, on a network of namespaces, watched with
//! curl from either side.
//!
//! This knows `ipfilter` by its command line only, as an operator does.

mod requests;
mod session;

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, Result};
use testkit::{
    need_root,
    netns::{ALLOWED, DENIED, HOST, Playground},
    process::{Interrupt, is_gone},
    tool,
};

use crate::{build, setup, table};
use requests::{Case, Client, Expected, Outcome};
use session::{FOLDER, PINS, Session, instance_name};

/// The policy that the demonstration deploys.
const POLICY: &str = "policies/allow-list.json";

/// A port of the host for each deny action.
const DROP: u16 = 80;
const REJECT: u16 = 81;
const RESPOND: u16 = 82;

/// Builds, deploys, asks and cleans up; fine only if every answer is as it should be. With `hold`
/// the network stays until a signal comes.
///
/// # Errors
/// [`testkit::Refused`] without root or the tools; on a signal; when something does not start.
pub(crate) fn run(hold: bool, interrupt: &Interrupt) -> Result<ExitCode> {
    need_root("the playground")?;
    setup::run(interrupt)?;
    for (name, package) in [
        ("curl", "curl"),
        ("ip", "iproute2"),
        ("nsenter", "util-linux"),
    ] {
        tool(name, package)?;
    }
    let binary = build::release(interrupt)?;
    sweep(&binary)?;
    let network = Playground::new("play").context("can't build the playground's network")?;
    let mut session = Session::new(&binary, network)?;
    let outcomes = play(&mut session, hold, interrupt)?;
    session.close()?;
    let well = outcomes.iter().all(Outcome::is_as_expected);
    Ok(ExitCode::from(u8::from(!well)))
}

/// The story: without the filter everybody gets an answer; with it, those the policy allows, and all others what the
/// API's deny action is; a reload changes who they are; and everybody gets an answer after it is detached.
fn play(session: &mut Session, hold: bool, interrupt: &Interrupt) -> Result<Vec<Outcome>> {
    eprintln!(
        "playground: a mock API without the filter, with it, after a reload, and after it is detached"
    );
    session.serve(interrupt)?;
    let mut outcomes = ask(
        session,
        &[denied("unfiltered", DROP, Expected::Answer)],
        interrupt,
    )?;
    session.filter(&workspace().join(POLICY), interrupt)?;
    outcomes.extend(ask(session, &filtered(), interrupt)?);
    session.swap_clients()?;
    outcomes.extend(ask(session, &reloaded(), interrupt)?);
    if hold {
        session.swap_clients()?;
        show(&outcomes);
        session.shell()?;
        return Ok(outcomes);
    }
    session.detach()?;
    outcomes.extend(ask(
        session,
        &[denied("detached", DROP, Expected::Answer)],
        interrupt,
    )?);
    show(&outcomes);
    Ok(outcomes)
}

fn filtered() -> [Case; 7] {
    const AFTER: &str = "filtered";
    let allowed = allowed(AFTER, Expected::Answer);
    [
        allowed,
        Case {
            head: true,
            ..allowed
        },
        Case {
            source: ALLOWED.v6,
            target: HOST.v6,
            ..allowed
        },
        denied(AFTER, DROP, Expected::Silence),
        denied(AFTER, REJECT, Expected::Reset),
        denied(AFTER, RESPOND, Expected::Forbidden),
        Case {
            source: DENIED.v6,
            target: HOST.v6,
            ..denied(AFTER, RESPOND, Expected::Forbidden)
        },
    ]
}

/// Who was allowed is denied, and the other way round.
fn reloaded() -> [Case; 2] {
    const AFTER: &str = "reloaded";
    [
        denied(AFTER, DROP, Expected::Answer),
        allowed(AFTER, Expected::Silence),
    ]
}

fn allowed(after: &'static str, expected: Expected) -> Case {
    Case {
        after,
        client: Client::Allowed,
        source: ALLOWED.v4,
        target: HOST.v4,
        port: DROP,
        head: false,
        expected,
    }
}

fn denied(after: &'static str, port: u16, expected: Expected) -> Case {
    Case {
        client: Client::Denied,
        source: DENIED.v4,
        port,
        ..allowed(after, expected)
    }
}

fn ask(session: &Session, cases: &[Case], interrupt: &Interrupt) -> Result<Vec<Outcome>> {
    cases
        .iter()
        .map(|case| {
            interrupt.check()?;
            case.ask(session.network())
        })
        .collect()
}

fn show(outcomes: &[Outcome]) {
    let rows: Vec<_> = outcomes.iter().map(Outcome::row).collect();
    print!("{}", table::render(&Outcome::HEAD, &rows));
    let wrong = outcomes.iter().filter(|outcome| !outcome.is_as_expected());
    match wrong.count() {
        0 => println!("all {} as expected", outcomes.len()),
        wrong => println!("{wrong} of {} not as expected", outcomes.len()),
    }
}

/// Takes away the filters and files of playgrounds that died without cleaning up.
fn sweep(binary: &Path) -> Result<()> {
    for name in names(Path::new(PINS)).filter(|name| is_left(name)) {
        session::detach_leftover(binary, &name)?;
    }
    for name in names(&env::temp_dir()) {
        if name.strip_prefix(FOLDER).is_some_and(is_left) {
            // Whoever cleans temporary files may have come first.
            let _: std::io::Result<()> = fs::remove_dir_all(env::temp_dir().join(&name));
        }
    }
    Ok(())
}

fn names(folder: &Path) -> impl Iterator<Item = String> {
    let entries = folder.read_dir().into_iter().flatten();
    entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok())
}

fn is_left(instance: &str) -> bool {
    let owner = instance
        .strip_prefix(&instance_name(""))
        .unwrap_or_default();
    owner.parse().is_ok_and(is_gone)
}

fn workspace() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_playgrounds_of_dead_processes_are_leftovers() {
        assert!(is_left("playground-4999999"));
        assert!(!is_left("playground-1"));
        assert!(!is_left("default"));
        assert!(!is_left("playground-"));
        assert!(!is_left("4999999"));
    }
}
