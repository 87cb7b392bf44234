//! `ipfilter fleet status`: what each host of a group enforces.

use std::fmt::Write as _;

use super::Target;
use crate::{
    outcome::{Exit, Format, Stop, print, print_json, shown},
    overview::{HostView, Overview, Wanted},
};

/// Show what each host of a group is to enforce, what it does, and how it is
///
/// Ends with 1 unless every host has in force what it is to, and no release is being tried.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    target: Target,

    /// Output format
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

pub(super) async fn run(args: &Args) -> Result<Exit, Stop> {
    let store = args.target.store()?;
    let overview = Overview::read(&store).await?;
    if overview.desired.is_none() && overview.canary.is_none() && overview.hosts.is_empty() {
        return Err(nothing(&overview.group));
    }
    match args.format {
        Format::Text => print(&text(&overview))?,
        Format::Json => print_json(&overview)?,
    }
    Ok(if overview.converged {
        Exit::Fine
    } else {
        Exit::Failed
    })
}

/// There is no such group.
pub(super) fn nothing(group: &str) -> Stop {
    Stop::failed(format!(
        "there is no group `{group}`: nothing was published to it, and no host follows it"
    ))
}

fn text(overview: &Overview) -> String {
    let mut text = String::new();
    // Writing to a string does not fail.
    let _: std::fmt::Result = write(&mut text, overview);
    text
}

fn write(text: &mut String, overview: &Overview) -> std::fmt::Result {
    match overview.desired {
        Some(wanted) => writeln!(text, "group {}: {}", overview.group, long(wanted))?,
        None => writeln!(text, "group {}: nothing is published", overview.group)?,
    }
    if let Some(canary) = &overview.canary {
        let hosts = canary.hosts.join(", ");
        writeln!(
            text,
            "tried by {hosts}: {}; publish it for all, or go back with `ipfilter fleet rollback`",
            long(canary.wanted)
        )?;
    }
    if let Some(generation) = overview.overrides {
        writeln!(text, "overrides of the group: generation {generation}")?;
    }
    for problem in &overview.problems {
        writeln!(text, "problem: {problem}")?;
    }
    let rows: Vec<_> = overview.hosts.iter().map(row).collect();
    table(
        text,
        &["HOST", "DESIRED", "IN FORCE", "SINCE", "VERSION", "HEALTH"],
        &rows,
    )?;
    for host in &overview.hosts {
        for problem in &host.problems {
            let mut lines = problem.trim_end().lines();
            writeln!(text, "{}: {}", host.host, lines.next().unwrap_or_default())?;
            for line in lines {
                writeln!(text, "    {line}")?;
            }
        }
    }
    let converged = overview
        .hosts
        .iter()
        .filter(|host| host.is_converged())
        .count();
    let all = overview.hosts.len();
    writeln!(
        text,
        "{converged} of {all} hosts have in force what they are to"
    )
}

fn long(wanted: Wanted) -> String {
    format!(
        "generation {} (bundle {:.12})",
        wanted.generation, wanted.digest
    )
}

fn row(host: &HostView) -> [String; 6] {
    let generation = |wanted: Option<Wanted>| match wanted {
        Some(wanted) => format!("{} {:.8}", wanted.generation, wanted.digest),
        None => "-".to_owned(),
    };
    [
        host.host.clone(),
        generation(host.desired),
        generation(host.in_force),
        host.since.map_or_else(|| "-".to_owned(), shown),
        host.version.clone().unwrap_or_else(|| "-".to_owned()),
        match host.health {
            crate::overview::Health::Away => format!("away since {}", shown(host.reported)),
            health => health.name().to_owned(),
        },
    ]
}

/// Writes rows in columns.
pub(super) fn table<const N: usize>(
    text: &mut String,
    head: &[&str; N],
    rows: &[[String; N]],
) -> std::fmt::Result {
    let widths: Vec<usize> = head
        .iter()
        .enumerate()
        .map(|(column, head)| {
            let cells = rows.iter().filter_map(|row| row.get(column));
            cells
                .map(|cell| cell.chars().count())
                .max()
                .unwrap_or_default()
                .max(head.len())
        })
        .collect();
    let head = head.map(str::to_owned);
    for row in std::iter::once(&head).chain(rows) {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            write!(line, "{cell:<width$}  ")?;
        }
        writeln!(text, "{}", line.trim_end())?;
    }
    Ok(())
}
