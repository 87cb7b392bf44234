//! `ipfilter fleet history`: what was published to a group.

use super::{Target, status};
use crate::{
    outcome::{Exit, Format, Stop, print, print_json, shown},
    store::{Ended, Entry, How},
};

/// List what was published to a group, the newest last
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
    let entries = store.history().await?;
    if entries.is_empty() {
        return Err(status::nothing(store.group.as_str()));
    }
    match args.format {
        Format::Json => print_json(&entries)?,
        Format::Text => {
            let rows: Vec<_> = entries.iter().map(row).collect();
            let mut text = String::new();
            let head = ["GENERATION", "BUNDLE", "AT", "BY", "SIGNED", "WHAT"];
            // Writing to a string does not fail.
            let _: std::fmt::Result = status::table(&mut text, &head, &rows);
            print(&text)?;
        }
    }
    Ok(Exit::Fine)
}

fn row(entry: &Entry) -> [String; 6] {
    let how = match &entry.how {
        How::Published(first) if first.is_empty() => "published".to_owned(),
        How::Published(first) => format!("published, first for {}", first.join(", ")),
        How::Back(generation) => format!("back to the bundle of generation {generation}"),
    };
    let ended = match &entry.ended {
        Some(Ended::Stopped(why)) => {
            format!("; stopped: {}", why.lines().next().unwrap_or_default())
        }
        Some(Ended::Promoted) => "; then for all".to_owned(),
        None => String::new(),
    };
    [
        entry.generation().to_string(),
        format!("{:.12}", entry.release.release.digest),
        shown(entry.at),
        entry.by.clone(),
        if entry.release.signatures.is_empty() {
            "no"
        } else {
            "yes"
        }
        .to_owned(),
        format!("{how}{ended}"),
    ]
}
