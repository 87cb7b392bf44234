//! `ipfilter publish`: a configuration for a group of hosts.

use std::{
    env,
    ffi::OsStr,
    fs,
    io::{IsTerminal as _, Write as _},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use ipfilter_bundle::{Bundle, Digest};

use super::{Signing, Target, parse_time};
use crate::{
    outcome::{Exit, Format, Stop, print},
    publish::{First, Publisher, Rollout, parse_first},
    store::{Store, pack},
};

/// The program that checks and compares configurations.
const PROGRAM: &str = "ipfilter";

/// Check a configuration, store it in etcd, and have a group of hosts enforce it
///
/// Shows what changes, and asks. With `--canary` some hosts get it first, and the others only if these have it in
/// force and stay well. If a host refuses it, or does not report in time, the group goes back to what it had.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    target: Target,

    /// The configuration: its policies lie in its folder or below
    #[arg(long, value_name = "FILE")]
    config: PathBuf,

    #[command(flatten)]
    signing: Signing,

    /// Ask nothing
    #[arg(long)]
    yes: bool,

    /// Publish to a group that does not exist yet
    #[arg(long)]
    create: bool,

    /// Some hosts first: so many, such a share, or these: `1`, `5%` or `HOST,…`
    #[arg(long, value_name = "HOSTS", value_parser = parse_first)]
    canary: Option<First>,

    /// How long these have to stay well before the others get it
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = parse_time)]
    soak: Duration,

    /// How long a host may take to have it in force
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = parse_time)]
    timeout: Duration,

    /// By how many percentage points the share of denied packets may grow at a host that tries it
    #[arg(long, value_name = "PERCENT", default_value = "10%", value_parser = parse_percent)]
    max_denied_change: f64,

    /// Do not wait for the hosts
    #[arg(long, conflicts_with = "canary")]
    no_wait: bool,

    /// Output format
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

fn parse_percent(text: &str) -> Result<f64, String> {
    let number = text.strip_suffix('%').unwrap_or(text).parse().ok();
    let number = number.filter(|number| (0.0..=100.0).contains(number));
    number.ok_or_else(|| format!("`{text}` is not a percentage: write one such as `10%`"))
}

pub(super) async fn run(args: &Args) -> Result<Exit, Stop> {
    let keys = args.signing.keys()?;
    let store = args.target.store()?;
    check(&args.config, args.format)?;
    let bundle = gather(&args.config)?;
    let packed = pack(&bundle.encode());
    let seen = store.desired().await?;
    let is_new = seen.revision == 0;
    if is_new && !args.create {
        return Err(Stop::failed(format!(
            "there is no group `{}` yet: check the name, or give `--create`",
            store.group
        )));
    }
    let before = seen.desired.stable.as_ref().map(|it| it.release.digest);
    if before == Some(packed.digest)
        && seen.desired.canary.is_none()
        && !keys_are_news(&seen, &keys)
    {
        print(&format!(
            "group `{}` has this bundle, {:.12}, already: nothing is published\n",
            store.group, packed.digest
        ))?;
        return Ok(Exit::Fine);
    }
    if args.format == Format::Text {
        compare(&store, before, &bundle).await?;
    }
    if !args.yes {
        ask(&format!(
            "publish bundle {:.12} to group `{}`?",
            packed.digest, store.group
        ))?;
    }
    let publisher = Publisher {
        store: &store,
        keys: &keys,
    };
    let rollout = Rollout {
        first: args.canary.clone(),
        soak: args.soak,
        timeout: args.timeout,
        max_denied_change: args.max_denied_change,
        waits: !args.no_wait,
        format: args.format,
    };
    publisher.publish(seen, &packed, &rollout).await
}

/// Whether the release in force lacks a signature that this one would have.
fn keys_are_news(seen: &crate::store::Seen, keys: &[ipfilter_bundle::KeyPair]) -> bool {
    let stable = seen.desired.stable.as_ref();
    let is_signed = |key: &ipfilter_bundle::KeyPair| {
        stable.is_some_and(|stable| {
            !stable.signatures.is_empty() && stable.verify(&[key.public()]).is_ok()
        })
    };
    !keys.iter().all(is_signed)
}

/// Has `ipfilter` check it: what it says goes where this one's output does.
fn check(config: &Path, format: Format) -> Result<(), Stop> {
    let mut check = ipfilter();
    check.arg("check").arg("--config").arg(config);
    if format == Format::Json {
        check.stdout(std::process::Stdio::null());
    }
    match run_it(&mut check)? {
        Some(0) => Ok(()),
        code => Err(Stop {
            exit: match code {
                Some(2) => Exit::Usage,
                Some(3) => Exit::InvalidPolicy,
                Some(4) => Exit::PartialPolicy,
                _ => Exit::Failed,
            },
            message: "nothing is published".to_owned(),
        }),
    }
}

fn gather(config: &Path) -> Result<Bundle, Stop> {
    ipfilter_config::gather(config).map_err(|error| match error {
        ipfilter_config::NotGathered::Invalid(findings) => Stop::usage(
            ipfilter_diagnostics::render_all(&findings.source, &findings.problems),
        ),
        ipfilter_config::NotGathered::Other(why) => Stop::usage(why),
    })
}

/// Shows what changes if the group goes from one bundle to another.
pub(super) async fn show_difference(
    store: &Store,
    before: Option<Digest>,
    after: Digest,
) -> Result<(), Stop> {
    let content = store.fetch("the bundle", after).await?;
    let after = Bundle::decode(&content).map_err(|error| Stop::failed(error.to_string()))?;
    compare(store, before, &after).await
}

async fn compare(store: &Store, before: Option<Digest>, after: &Bundle) -> Result<(), Stop> {
    let Some(before) = before else {
        return print(&format!(
            "group `{}` has nothing in force yet\n",
            store.group
        ));
    };
    let content = match store.fetch("the bundle", before).await {
        Ok(content) => content,
        Err(failure) if failure.etcd().is_some() => return Err(failure.into()),
        Err(failure) => {
            return print(&format!("what changes can't be shown: {failure}\n"));
        }
    };
    let before = Bundle::decode(&content).map_err(|error| Stop::failed(error.to_string()))?;
    let folder = tempfile::tempdir()?;
    let mut diff = ipfilter();
    diff.arg("diff").current_dir(folder.path());
    for (name, bundle) in [("before", &before), ("after", after)] {
        let folder = folder.path().join(name);
        for (file, content) in bundle.files() {
            let path = folder.join(file);
            fs::create_dir_all(path.parent().unwrap_or(&folder))?;
            fs::write(path, content)?;
        }
        diff.arg(Path::new(name).join(bundle.config()));
    }
    match run_it(&mut diff)? {
        Some(0) => Ok(()),
        // It has said why.
        _ => Err(Stop::failed(
            "what changes can't be shown, so nothing is published",
        )),
    }
}

/// `ipfilter`, beside this program or in `PATH`.
fn ipfilter() -> Command {
    let beside = env::current_exe()
        .ok()
        .map(|path| path.with_file_name(PROGRAM));
    let beside = beside.filter(|path| path.is_file());
    Command::new(
        beside
            .as_deref()
            .map_or(OsStr::new(PROGRAM), Path::as_os_str),
    )
}

fn run_it(command: &mut Command) -> Result<Option<i32>, Stop> {
    // What is printed here comes first.
    std::io::stdout().flush()?;
    let status = command.stdin(std::process::Stdio::null()).status();
    let status = status.map_err(|error| {
        Stop::failed(format!(
            "can't run `{PROGRAM}`, which must be beside this program or in `PATH`: {error}"
        ))
    })?;
    Ok(status.code())
}

/// Asks at the terminal.
pub(super) fn ask(question: &str) -> Result<(), Stop> {
    if !std::io::stdin().is_terminal() {
        return Err(Stop::usage("there is no terminal to ask at: give `--yes`"));
    }
    let mut out = std::io::stderr();
    write!(out, "{question} [y/N] ")?;
    out.flush()?;
    let mut line = String::new();
    std::io::stdin().read_line(&mut line)?;
    match line.trim() {
        "y" | "Y" | "yes" => Ok(()),
        _ => Err(Stop::failed("nothing is published")),
    }
}
