//! `ipfilter manual`: writes the manual pages and the completions for shells. For `cargo xtask dist`,
//! which packs them, and not shown to users: the pages of a binary come from that binary.
//!
//! Options and commands are those of the real command line; everything else is in `dist/man/`.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use anyhow::Result;
use clap::{Arg, ArgAction, Command, CommandFactory as _};
use clap_complete::Shell;
use clap_mangen::Man;
use ipfilter_ebpf::abi::Reason;
use jiff::{Timestamp, tz::TimeZone};

use super::{Cli, Exit, complete::scripts};
use crate::config::{ApiConfig, Config, Settings};

/// Ends the page of `ipfilter`.
const SECTIONS: &str = include_str!("../../dist/man/ipfilter.8.sections");

/// Ends the page of each of its commands.
const COMMAND_SECTIONS: &str = include_str!("../../dist/man/command.8.sections");

/// What the pages of single commands have besides, before that.
const MORE_SECTIONS: [(&str, &str); 1] = [(
    "verify",
    include_str!("../../dist/man/ipfilter-verify.8.sections"),
)];

/// Examples, by command.
const EXAMPLES: &str = include_str!("../../dist/man/examples");

/// The pages that describe files and the policy language.
const WRITTEN: [(&str, &str); 2] = [
    (
        "ipfilter.json.5",
        include_str!("../../dist/man/ipfilter.json.5"),
    ),
    (
        "ipfilter-policy.7",
        include_str!("../../dist/man/ipfilter-policy.7"),
    ),
];

/// The section of the manual for programs that administrators run.
const SECTION: &str = "8";

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
        let examples = examples(page.get_name());
        let sections = [more, &examples, COMMAND_SECTIONS].concat();
        about.write(folder, page, &sections)?;
    }
    about.write(folder, &command, SECTIONS)?;
    for (name, text) in WRITTEN {
        fs::write(folder.join(name), about.fill(text))?;
    }
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
            .section(SECTION)
            .date(&self.date)
            .source(&self.source)
            .manual("ipfilter");
        let mut text = Vec::new();
        page.render_title(&mut text)?;
        page.render_name_section(&mut text)?;
        text.extend(synopsis(command).into_bytes());
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

/// How a command is called: its options with what they take, then its arguments.
fn synopsis(command: &Command) -> String {
    let name = command.get_bin_name().unwrap_or_else(|| command.get_name());
    let mut words = vec![format!("\\fB{}\\fR", roff(name))];
    let shown = command.get_arguments().filter(|arg| !arg.is_hide_set());
    let (positional, options): (Vec<&Arg>, Vec<&Arg>) = shown.partition(|arg| arg.is_positional());
    words.extend(options.into_iter().filter_map(option));
    words.extend(positional.into_iter().map(argument));
    if command.has_subcommands() {
        words.push("\\fICOMMAND\\fR".to_owned());
    }
    format!(".SH SYNOPSIS\n{}\n", words.join("\n"))
}

fn option(arg: &Arg) -> Option<String> {
    let takes = if arg.get_action().takes_values() {
        format!(" {}", values(arg))
    } else {
        String::new()
    };
    let word = format!("\\fB\\-\\-{}\\fR{takes}", roff(arg.get_long()?));
    Some(optional(arg, word))
}

fn argument(arg: &Arg) -> String {
    let several = arg
        .get_num_args()
        .is_some_and(|count| count.max_values() > 1)
        || matches!(arg.get_action(), ArgAction::Append);
    let word = values(arg) + if several { " ..." } else { "" };
    optional(arg, word)
}

fn optional(arg: &Arg, word: String) -> String {
    if arg.is_required_set() {
        word
    } else {
        format!("[{word}]")
    }
}

/// The few values that there are, or what stands for one.
fn values(arg: &Arg) -> String {
    let possible = arg.get_possible_values();
    let names: Vec<&str> = possible
        .iter()
        .filter(|value| !value.is_hide_set())
        .map(clap::builder::PossibleValue::get_name)
        .collect();
    if !names.is_empty() {
        let bold = names.iter().map(|name| format!("\\fB{}\\fR", roff(name)));
        return bold.collect::<Vec<_>>().join("|");
    }
    let names = arg.get_value_names().unwrap_or_default();
    let names: Vec<&str> = names.iter().map(clap::builder::Str::as_str).collect();
    format!("\\fI{}\\fR", roff(&names.join(" ")))
}

/// Text in which a hyphen stays one, to be copied.
fn roff(text: &str) -> String {
    text.replace('\\', "\\e").replace('-', "\\-")
}

/// The section with a command's examples.
fn examples(command: &str) -> String {
    let lines = EXAMPLES.lines().skip(1).skip_while(|line| *line != command);
    let mine: Vec<&str> = lines
        .skip(1)
        .take_while(|line| line.contains(' '))
        .collect();
    let shown = mine.chunks_exact(2).filter_map(|pair| {
        let [says, line] = pair else { return None };
        Some(format!(".TP\n{}\n.B {}\n", roff(says), roff(line)))
    });
    format!(".SH EXAMPLES\n{}", shown.collect::<String>())
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
    use clap::Parser as _;

    use super::*;
    use crate::policy::{self, Source};

    #[test]
    fn every_command_has_examples_that_its_command_line_takes() {
        let command = Cli::command();
        for shown in command.get_subcommands().filter(|one| !one.is_hide_set()) {
            let section = examples(shown.get_name());
            let lines: Vec<&str> = section
                .lines()
                .filter_map(|line| line.strip_prefix(".B "))
                .collect();
            assert!(!lines.is_empty(), "{}", shown.get_name());
            for line in lines {
                let line = line
                    .replace("\\-", "-")
                    .replace("\"ticket 4711\"", "ticket");
                let words: Vec<&str> = line.split(' ').collect();
                assert_eq!(words[1], shown.get_name(), "{line}");
                if let Err(error) = Cli::try_parse_from(&words) {
                    panic!("{line}: {error}");
                }
            }
        }
    }

    #[test]
    fn the_policies_that_pages_show_are_policies() {
        let mut shown = 0;
        for (name, page) in WRITTEN {
            let page = page.replace("\\(dq", "\"").replace("\\-", "-");
            for part in page.split(".RS\n").skip(1) {
                let (text, _) = part.split_once(".RE\n").unwrap();
                if text.contains("Statement") {
                    let source = Source::new(name, text);
                    let parsed = policy::parse(&source, &policy::Options::default());
                    assert!(parsed.accept(false).is_ok(), "{name}: {text}");
                    shown += 1;
                }
            }
        }
        assert_eq!(shown, 3);
    }

    #[test]
    fn a_synopsis_names_values_and_what_can_be_left_out() {
        let mut command = Cli::command();
        command.build();
        let probe = command.find_subcommand("probe").unwrap();
        let text = synopsis(probe);
        assert!(
            text.starts_with(".SH SYNOPSIS\n\\fBipfilter probe\\fR\n"),
            "{text}"
        );
        assert!(
            text.contains("\n\\fB\\-\\-source\\fR \\fIIP\\fR\n"),
            "{text}"
        );
        assert!(
            text.contains("[\\fB\\-\\-protocol\\fR \\fBtcp\\fR|\\fBudp\\fR]"),
            "{text}"
        );
        let replay = synopsis(command.find_subcommand("replay").unwrap());
        assert!(replay.ends_with("\n\\fIFILE\\fR ...\n"), "{replay}");
    }

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
