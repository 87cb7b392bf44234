//! Writes the manual pages and the completions for shells into the folder that is named:
//! `cargo run --package ipfilter --example manual -- FOLDER`. `cargo xtask dist` packs them.
//!
//! Options and commands are those of the real command line; what it can't tell is in `dist/man/`.
//! An example, so that nothing of this is in the binary that is installed.

use std::{env, fs, path::Path};

use anyhow::{Context as _, Result};
use clap::Command;
use clap_complete::Shell;
use clap_mangen::Man;
use ipfilter::config::{ApiConfig, Config, Settings};
use ipfilter_ebpf::abi::Reason;
use jiff::{Timestamp, tz::TimeZone};

/// Ends the page of `ipfilter`.
const SECTIONS: &str = include_str!("../dist/man/ipfilter.1.sections");

/// Ends the page of each of its commands.
const COMMAND_SECTIONS: &str = include_str!("../dist/man/command.1.sections");

/// The page of the configuration file.
const CONFIGURATION: &str = include_str!("../dist/man/ipfilter.json.5");

fn main() -> Result<()> {
    let folder = env::args_os().nth(1).context("name the folder to write")?;
    let folder = Path::new(&folder);
    fs::create_dir_all(folder)?;
    let mut command = ipfilter::cli::command().disable_help_subcommand(true);
    command.build();
    let about = About::now()?;
    for page in command.get_subcommands().filter(|page| !page.is_hide_set()) {
        about.write(folder, page, COMMAND_SECTIONS)?;
    }
    about.write(folder, &command, SECTIONS)?;
    fs::write(folder.join("ipfilter.json.5"), about.fill(CONFIGURATION))?;
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        clap_complete::generate_to(shell, &mut ipfilter::cli::command(), "ipfilter", folder)?;
    }
    Ok(())
}

/// What every page's margins say.
struct About {
    date: String,
    source: String,
}

impl About {
    /// The date is that of the sources, where the environment tells it
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

/// Sets in bold what stands in backticks, which print as single quotes that open and never close.
fn emphasized(page: &str) -> String {
    let mut fonts = [r"\fB", r"\fR"].into_iter().cycle();
    let mut parts = page.split('`');
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| {
        text + fonts.next().unwrap_or_default() + part
    })
}
