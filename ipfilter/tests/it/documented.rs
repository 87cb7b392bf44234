//! The reference documentation names what there is: commands, options, reasons.

use std::{collections::BTreeSet, process::Command};

use ipfilter_ebpf::abi::Reason;

const COMMANDS: &str = include_str!("../../docs/reference/commands.md");
const METRICS: &str = include_str!("../../docs/reference/metrics.md");

#[test]
fn every_command_and_option_is_in_the_reference() {
    let common = section("Common options");
    let mut missing = Vec::new();
    for command in commands() {
        let own = section(&command);
        for option in options(&help(&["help", &command])) {
            let quoted = |text: &str| {
                let mut words = text.split(|c: char| c != '-' && !c.is_ascii_alphanumeric());
                words.any(|word| word == option)
            };
            // `deploy` takes the options of `run`.
            let shared = command == "deploy" && quoted(&section("run"));
            if !quoted(&own) && !quoted(&common) && !shared {
                missing.push(format!("{command} {option}"));
            }
        }
    }
    assert!(missing.is_empty(), "not in commands.md: {missing:?}");
}

#[test]
fn every_reason_is_in_the_reference() {
    for reason in Reason::ALL {
        let row = format!("| `{}` | `{}` |", reason.outcome().name(), reason.name());
        assert!(METRICS.contains(&row), "not in metrics.md: {row}");
    }
}

/// What `commands.md` says under this heading, or under one that lists several commands.
fn section(wanted: &str) -> String {
    let mut sections = COMMANDS.split("\n## ").skip(1);
    let names = |section: &&str| {
        let heading = section.lines().next().unwrap_or_default();
        heading.split(", ").any(|name| name == wanted)
    };
    let found = sections.find(names);
    found
        .unwrap_or_else(|| panic!("commands.md has no section `{wanted}`"))
        .to_owned()
}

fn help(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_ipfilter"))
        .args(arguments)
        .output()
        .expect("it starts");
    String::from_utf8(output.stdout).expect("text")
}

fn commands() -> Vec<String> {
    let help = help(&["--help"]);
    let (_, list) = help.split_once("Commands:\n").expect("a list of commands");
    let names = list.lines().take_while(|line| !line.is_empty());
    let names = names.filter_map(|line| line.strip_prefix("  ")?.split(' ').next());
    let named = |name: &&str| !name.is_empty() && *name != "help";
    let commands: Vec<_> = names.filter(named).map(ToOwned::to_owned).collect();
    assert!(commands.len() > 10, "{commands:?}");
    commands
}

/// The long options that a help text describes.
fn options(help: &str) -> BTreeSet<String> {
    let described = help.lines().map(str::trim_start);
    let described = described.filter(|line| line.starts_with('-'));
    let words = described.flat_map(|line| line.split([' ', ',', '=']));
    let options: BTreeSet<_> = words
        .filter(|word| word.starts_with("--") && word.len() > 2)
        .map(ToOwned::to_owned)
        .collect();
    assert!(options.contains("--help"), "{help}");
    options
}
