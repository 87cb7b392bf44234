//! `ipfilter manual`: writes the manual pages and the completions for shells. For `cargo xtask dist`,
//! which packs them, and not shown to users: the pages of a binary come from that binary.
//!
//! Options and commands are those of the real command line; everything else is in `dist/man/`.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use anyhow::Result;
use clap::{Command, CommandFactory as _};
use clap_complete::Shell;
use clap_mangen::Man;
use ipfilter_ebpf::abi::Reason;
use jiff::{Timestamp, tz::TimeZone};

use super::{Cli, Exit, complete::scripts};
use crate::config::{ApiConfig, Config, Settings};

/// Ends the page of `ipfilter`.
const SECTIONS: &str = include_str!("../../dist/man/ipfilter.1.sections");

/// Ends the page of each of its commands.
const COMMAND_SECTIONS: &str = include_str!("../../dist/man/command.1.sections");

/// What the pages of single commands have besides, before that.
const MORE_SECTIONS: [(&str, &str); 1] = [(
    "verify",
    include_str!("../../dist/man/ipfilter-verify.1.sections"),
)];

/// The page of the configuration file.
const CONFIGURATION: &str = include_str!("../../dist/man/ipfilter.json.5");

/// Write manual pages and completions for shells
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Where to write them
    folder: PathBuf,
}

pub(super) fn run(args: &Args) -> Result<Exit> {
    let folder = args.folder.as_path();
    fs::create_dir_all(folder)?;
    let mut command = Cli::command().disable_help_subcommand(true);
    command.build();
    let about = About::now()?;
    for page in command.get_subcommands().filter(|page| !page.is_hide_set()) {
        let more = MORE_SECTIONS
            .iter()
            .find(|(name, _)| *name == page.get_name());
        let more = more.map_or("", |(_, sections)| sections);
        about.write(folder, page, &[more, COMMAND_SECTIONS].concat())?;
    }
    about.write(folder, &command, SECTIONS)?;
    fs::write(folder.join("ipfilter.json.5"), about.fill(CONFIGURATION))?;
    for (shell, asking) in [
        (Shell::Bash, scripts::bash as fn(&str) -> String),
        (Shell::Zsh, scripts::zsh),
        (Shell::Fish, scripts::fish),
    ] {
        let written = clap_complete::generate_to(shell, &mut completed(), "ipfilter", folder)?;
        let script = fs::read_to_string(&written)?;
        fs::write(written, asking(&script))?;
    }
    Ok(Exit::Fine)
}

/// The command line as it is completed: without what is hidden, which clap would complete too.
fn completed() -> Command {
    let command = Cli::command();
    let shown = command.get_subcommands();
    let shown = shown.filter(|command| !command.is_hide_set()).cloned();
    Command::new("ipfilter")
        .version(env!("CARGO_PKG_VERSION"))
        .args(command.get_arguments().cloned())
        .subcommands(shown)
}

/// What every page's margins say.
struct About {
    date: String,
    source: String,
}

impl About {
    /// The date is that of the sources, where the environment gives it
    /// (<https://reproducible-builds.org/specs/source-date-epoch/>).
    fn now() -> Result<Self> {
        let date = match env::var("SOURCE_DATE_EPOCH") {
            Ok(seconds) => Timestamp::from_second(seconds.parse()?)?,
            Err(_) => Timestamp::now(),
        };
        Ok(Self {
            date: date.to_zoned(TimeZone::UTC).date().to_string(),
            source: format!("ipfilter {}", env!("CARGO_PKG_VERSION")),
        })
    }

    fn write(&self, folder: &Path, command: &Command, sections: &str) -> Result<()> {
        let page = Man::new(command.clone())
            .date(&self.date)
            .source(&self.source)
            .manual("ipfilter");
        let mut text = Vec::new();
        page.render_title(&mut text)?;
        page.render_name_section(&mut text)?;
        page.render_synopsis_section(&mut text)?;
        page.render_description_section(&mut text)?;
        page.render_options_section(&mut text)?;
        if command.has_subcommands() {
            page.render_subcommands_section(&mut text)?;
        }
        let text = emphasized(&String::from_utf8(text)?) + &self.fill(sections);
        fs::write(folder.join(page.get_filename()), text)?;
        Ok(())
    }

    fn fill(&self, text: &str) -> String {
        text.replace("@DATE@", &self.date)
            .replace("@SOURCE@", &self.source)
            .replace("@REASONS@\n", &reasons())
            .replace("@FIELDS@\n", &fields::<Config>())
            .replace("@API_FIELDS@\n", &fields::<ApiConfig>())
    }
}

/// A list of settings, as a configuration file has them.
fn fields<T: Settings>() -> String {
    let fields = T::fields().into_iter().map(|field| {
        let default = field.default.map(|text| format!("; by default {text}"));
        let takes = field.takes + &default.unwrap_or_default();
        let text = emphasized(&format!("{}.\nTakes {takes}.\n", field.help));
        format!(".TP\n.B {}\n{}", field.name, text.replace('"', "\\(dq"))
    });
    fields.collect()
}

/// A list of all reasons, as counters, events and metrics name them.
fn reasons() -> String {
    let lines = Reason::ALL.map(|reason| {
        format!(
            ".TP\n.B {} {}\n{}\n",
            reason.outcome().name(),
            reason.name(),
            reason.description()
        )
    });
    lines.concat()
}

/// Sets in bold what is in backticks, which print as single quotes that open and never close.
fn emphasized(page: &str) -> String {
    let mut fonts = [r"\fB", r"\fR"].into_iter().cycle();
    let mut parts = page.split('`');
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| {
        text + fonts.next().unwrap_or_default() + part
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn completions_have_all_commands_but_the_hidden_one() {
        let mut script = Vec::new();
        clap_complete::generate(Shell::Bash, &mut completed(), "ipfilter", &mut script);
        let script = String::from_utf8(script).unwrap();
        assert!(script.contains("explain") && script.contains("--instance"));
        assert!(script.contains("--version"));
        assert!(!script.contains("manual"));
    }
}
