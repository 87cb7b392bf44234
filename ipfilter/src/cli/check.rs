//! `ipfilter check`: is this a policy, what does it say, and can it be enforced?

use std::{io::Write, path::PathBuf};

use jiff::Timestamp;

use crate::{
    config::PolicyOptions,
    files::read_policy,
    policy::{self, Policy, Source},
    view::{
        check::{FileReport, FileVerdict, ProblemView, Report, refusal, summary},
        diagnostics,
        sources::Meaning,
    },
};

use super::{Exit, format::Format};

/// Validate policies: who may call, when that changes, and how far an interface can enforce it
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Policy files; `-` is standard input
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,

    /// How to print the outcome
    #[arg(long, value_enum, default_value_t)]
    format: Format,

    #[command(flatten)]
    policy: PolicyOptions,
}

/// Runs the command.
///
/// # Errors
///
/// When the outcome cannot be printed.
pub fn run(args: &Args) -> anyhow::Result<Exit> {
    let mut out = anstream::stdout().lock();
    let mut report = Report::default();
    let mut unreadable = 0;
    for path in &args.files {
        let file = match read_policy(path) {
            Ok(source) => check(&mut out, args, &source)?,
            Err(error) => {
                unreadable += 1;
                let file = path.display().to_string();
                let message = format!("cannot read the policy: {error}");
                // Standard error may be closed; the exit code tells all the same.
                let _ = writeln!(anstream::stderr(), "error: {file}: {message}");
                FileReport {
                    file,
                    verdict: FileVerdict::Invalid,
                    statements: None,
                    meaning: None,
                    problems: vec![ProblemView::unreadable(message)],
                }
            }
        };
        report.files.push(file);
    }
    if args.format == Format::Json {
        serde_json::to_writer(&mut out, &report)?;
        writeln!(out)?;
    }
    out.flush()?;
    Ok(exit(&report, unreadable, args.policy.allow_partial))
}

/// Judges one file, and prints it unless JSON is wanted.
fn check(out: &mut impl Write, args: &Args, source: &Source) -> anyhow::Result<FileReport> {
    let parsed = policy::parse(source, &(&args.policy).into());
    let verdict = FileVerdict::from(parsed.enforceable());
    let policy = parsed.policy.as_ref();
    let meaning = policy.map(|policy| Meaning::of(policy, Timestamp::now()));
    if args.format == Format::Text {
        for problem in &parsed.problems {
            writeln!(out, "{}\n", diagnostics::render(source, problem))?;
        }
        let line = match policy.zip(meaning.as_ref()) {
            Some((policy, meaning)) => summary(source.name(), policy, meaning),
            None => refusal(source.name(), &parsed),
        };
        writeln!(out, "{line}")?;
        if verdict == FileVerdict::Partial && !args.policy.allow_partial {
            writeln!(
                out,
                "{}: refused unless `--allow-partial` is given",
                source.name()
            )?;
        }
    }
    Ok(FileReport {
        file: source.name().to_owned(),
        verdict,
        statements: policy.map(Policy::statements_len),
        meaning,
        problems: parsed.problems.iter().map(ProblemView::from).collect(),
    })
}

fn exit(report: &Report, unreadable: usize, allow_partial: bool) -> Exit {
    let count = |verdict| {
        report
            .files
            .iter()
            .filter(|file| file.verdict == verdict)
            .count()
    };
    if count(FileVerdict::Invalid) > unreadable {
        Exit::InvalidPolicy
    } else if unreadable > 0 {
        Exit::Failed
    } else if count(FileVerdict::Partial) > 0 && !allow_partial {
        Exit::PartialPolicy
    } else {
        Exit::Fine
    }
}
