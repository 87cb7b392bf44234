//! `ipfilter init`: a first configuration and policy, from answers or from options.

mod dialog;

use std::{
    fs::{DirBuilder, File},
    io::{self, IsTerminal as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use ipnet::IpNet;
use serde_json::{Value, json};

use self::dialog::Dialog;
use super::{Exit, Stop, check, import::prove};
use crate::{
    addresses::AddressSet,
    config::choice,
    files,
    kernel::{Interface, connections},
    overrides::parse_source,
    plan::{Deny, PortSet},
    policy::Options,
    session::{self, Session},
    view::clients::Clients,
};

/// Write a first configuration and policy, from answers or from options
///
/// Asks on a terminal for what is not given. Shows who is connected to the ports now, and whether the
/// policy lets them in. Nothing is deployed, and no file that is there is touched.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Interface to filter, by name or by a pattern such as `eth*`
    #[arg(long = "interface", value_delimiter = ',', value_name = "IF,...")]
    interfaces: Vec<String>,

    /// Port of the API, or a range such as 8000-8010
    #[arg(long = "port", value_delimiter = ',', value_name = "PORTS,...")]
    ports: Vec<PortSet>,

    /// Address or block that may call the API; none other may
    #[arg(long, value_delimiter = ',', value_name = "SOURCE,...", value_parser = parse_source)]
    allow: Vec<IpNet>,

    /// What to do with packets from other sources
    #[arg(long, value_parser = choice::<Deny>(), default_value = "drop")]
    deny: Deny,

    /// Judge, count and report packets, but never deny one
    #[arg(long)]
    monitor: bool,

    /// What to call the API; its policy is written to NAME.json beside the configuration
    #[arg(long, value_name = "NAME", default_value = "api", value_parser = name)]
    name: String,

    /// The configuration file to write
    #[arg(
        long,
        value_name = "FILE",
        default_value = "/etc/ipfilter/ipfilter.json"
    )]
    config: PathBuf,
}

/// A name that is a file's too.
fn name(text: &str) -> Result<String, String> {
    let is_legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    if text.is_empty() || text.len() > 64 || !text.chars().all(is_legal) {
        return Err("write 1 to 64 letters, digits, hyphens and underscores".into());
    }
    Ok(text.to_owned())
}

/// What was answered.
#[derive(Debug, Default)]
struct Answers {
    interfaces: Vec<String>,
    ports: Option<PortSet>,
    allow: Vec<IpNet>,
    monitor: bool,
}

/// Runs the command.
///
/// # Errors
///
/// When something is missing and there is no terminal to ask at, or a file can't be written.
pub fn run(args: &Args) -> anyhow::Result<Exit> {
    let policy = args.config.with_file_name(format!("{}.json", args.name));
    if policy == args.config {
        return Err(Stop::usage(format!(
            "the policy `{}` would be the configuration itself: choose another `--name`",
            files::shown(&policy)
        ))
        .into());
    }
    [&args.config, &policy]
        .into_iter()
        .try_for_each(|path| refuse_existing(path))?;
    let given = Answers {
        interfaces: args.interfaces.clone(),
        ports: args
            .ports
            .iter()
            .cloned()
            .reduce(|all, more| all.union(&more)),
        allow: args.allow.clone(),
        monitor: args.monitor,
    };
    let is_asked = io::stdin().is_terminal() && io::stderr().is_terminal();
    let answers = if is_asked {
        let clients = |ports: &PortSet, allow: &AddressSet| clients(ports, allow).to_string();
        let mut dialog = Dialog::new(io::stdin().lock(), anstream::stderr().lock());
        dialog.complete(given, &interfaces()?, clients)?
    } else {
        complete(given)?
    };
    write(args, &answers, &policy)
}

/// Refuses to go on where something is missing and nobody can be asked.
fn complete(answers: Answers) -> Result<Answers, Stop> {
    let missing = [
        ("--interface", answers.interfaces.is_empty()),
        ("--port", answers.ports.is_none()),
        ("--allow", answers.allow.is_empty()),
    ];
    let missing = missing.into_iter().filter(|(_, is_missing)| *is_missing);
    let missing: Vec<_> = missing.map(|(option, _)| format!("`{option}`")).collect();
    if missing.is_empty() {
        return Ok(answers);
    }
    Err(Stop::usage(format!(
        "there is no terminal to ask at: give {} as well",
        missing.join(", ")
    )))
}

/// The interfaces that can be filtered.
fn interfaces() -> anyhow::Result<Vec<String>> {
    let matched = Interface::matching(&["*".to_owned()], &[])?;
    let names = matched
        .interfaces
        .into_iter()
        .map(|interface| interface.name);
    Ok(names.collect())
}

/// Who is connected to the ports now.
fn clients(ports: &PortSet, allowed: &AddressSet) -> Clients {
    let connections = connections().map_err(|error| error.to_string());
    let sessions = session::guarded();
    let is_seen = |session: &&Session| {
        session.at.is_some_and(|at| ports.contains(at.port())) && !allowed.contains(session.from)
    };
    let cut_off = sessions.iter().filter(is_seen).map(|session| session.from);
    Clients::new(ports, allowed, connections, cut_off.collect())
}

fn refuse_existing(path: &Path) -> Result<(), Stop> {
    if path.symlink_metadata().is_err() {
        return Ok(());
    }
    Err(Stop::usage(format!(
        "`{}` is there already and is not overwritten: edit it, move it away, or choose another \
         `--config` or `--name`",
        files::shown(path)
    )))
}

/// Writes both files, and checks them as `check` does.
fn write(args: &Args, answers: &Answers, policy: &Path) -> anyhow::Result<Exit> {
    let ports = answers.ports.clone().context("no port was given")?;
    let allowed = AddressSet::from_networks(answers.allow.iter().copied());
    let options = Options::default();
    let text = ipfilter_exchange::policy(&allowed, &options.vpc_sources());
    prove(&text, &allowed, &options)?;
    create(policy, text.as_bytes())?;
    let config = config(args, answers, &ports);
    if let Err(error) = create(&args.config, format!("{config:#}\n").as_bytes()) {
        // One without the other would be in the way of another try.
        std::fs::remove_file(policy)?;
        return Err(error);
    }
    let mut out = anstream::stdout().lock();
    write!(out, "{}", clients(&ports, &allowed))?;
    for path in [policy, &args.config] {
        writeln!(out, "wrote {}", files::shown(path))?;
    }
    drop(out);
    let exit = check::run(&check::Args::of_config(&args.config))?;
    if exit == Exit::Fine {
        print_next(args, answers)?;
    }
    Ok(exit)
}

fn config(args: &Args, answers: &Answers, ports: &PortSet) -> Value {
    let ports = ports
        .ranges()
        .map(|range| match (range.start(), range.end()) {
            (first, last) if first == last => json!(first),
            (first, last) => json!(format!("{first}-{last}")),
        });
    let mut api = json!({
        "name": args.name,
        "ports": ports.collect::<Vec<_>>(),
        "policy": format!("{}.json", args.name),
        "deny": args.deny.to_string(),
    });
    if let (true, Some(api)) = (answers.monitor, api.as_object_mut()) {
        api.insert("monitor".into(), true.into());
    }
    json!({ "interfaces": answers.interfaces, "apis": [api] })
}

/// Creates a file that is not there yet.
fn create(path: &Path, content: &[u8]) -> anyhow::Result<()> {
    let write = || {
        if let Some(folder) = path.parent() {
            DirBuilder::new()
                .recursive(true)
                .mode(0o755)
                .create(folder)?;
        }
        let mut file = File::options()
            .write(true)
            .create_new(true)
            .mode(0o644)
            .open(path)?;
        file.write_all(content)?;
        file.sync_all()
    };
    write().with_context(|| format!("can't write `{}`", files::shown(path)))
}

/// How to go on.
fn print_next(args: &Args, answers: &Answers) -> io::Result<()> {
    let config = files::shown(&args.config);
    let mut out = anstream::stdout().lock();
    if answers.monitor {
        writeln!(
            out,
            "\nnothing is deployed yet. To judge and count without denying anyone:\n  \
             sudo ipfilter run --config {config}\n\
             `sudo ipfilter status` and `sudo ipfilter events` show who would be denied; then remove \
             `\"monitor\": true` and `sudo ipfilter reload --confirm 60s`"
        )
    } else {
        writeln!(
            out,
            "\nnothing is deployed yet. To try it, and go back by itself after a minute:\n  \
             sudo ipfilter run --config {config} --confirm 60s\n\
             To keep it, from a new connection within that minute:\n  \
             sudo ipfilter confirm"
        )
    }
}
