//! `ipfilter complete`: what a shell offers where the command line takes the name of something that is
//! there. For the completions that `ipfilter manual` writes, and not shown to users.

use std::{collections::BTreeSet, fs};

use jiff::Timestamp;

use super::Exit;
use crate::{instance::Instance, state::load_overrides};

/// Where the kernel lists interfaces.
const INTERFACES: &str = "/sys/class/net";

/// List what a word of the command line may be
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// What to list
    #[arg(value_enum)]
    what: What,

    /// The command line so far, which may name an instance
    #[arg(last = true, allow_hyphen_values = true)]
    words: Vec<String>,
}

/// What can be listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum What {
    /// The instances that have something pinned.
    Instances,
    /// The interfaces of this network namespace.
    Interfaces,
    /// The numbers of the overrides in force.
    Overrides,
}

impl What {
    /// As it is asked for.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Instances => "instances",
            Self::Interfaces => "interfaces",
            Self::Overrides => "overrides",
        }
    }
}

/// Lists what can be read: who completes is not always root, and wants no error messages.
pub(super) fn run(args: &Args) -> Exit {
    for word in listed(args) {
        println!("{word}");
    }
    Exit::Fine
}

fn listed(args: &Args) -> BTreeSet<String> {
    match args.what {
        What::Instances => {
            let here = Instance::all().into_iter();
            let here = here.filter(|one| one.other_namespace().is_none());
            here.map(|one| one.name().to_owned()).collect()
        }
        What::Interfaces => {
            let entries = fs::read_dir(INTERFACES).into_iter().flatten().flatten();
            let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
            names.filter(|name| name != "lo").collect()
        }
        What::Overrides => {
            let instance = named(&args.words).unwrap_or_else(Instance::unnamed);
            let overrides = load_overrides(&instance).unwrap_or_default();
            let active = overrides.active(Timestamp::now());
            active.map(|one| one.id.to_string()).collect()
        }
    }
}

/// The instance that a command line names.
fn named(words: &[String]) -> Option<Instance> {
    let mut words = words.iter();
    while let Some(word) = words.next() {
        if word == "--instance" {
            return words.next()?.parse().ok();
        }
        if let Some(name) = word.strip_prefix("--instance=") {
            return name.parse().ok();
        }
    }
    None
}

/// Has the completions of a shell, as clap writes them, ask for what is there.
pub(super) mod scripts {
    use super::What;

    /// The options that take the name of something, and what.
    const OPTIONS: [(&str, What); 2] = [
        ("instance", What::Instances),
        ("interface", What::Interfaces),
    ];

    /// Where bash finds the words of the command that takes numbers.
    const REMOVE: &str =
        "        ipfilter__subcmd__overrides__subcmd__remove)\n            opts=\"";

    fn asked(what: What, words: &str) -> String {
        format!("ipfilter complete {} -- {words} 2>/dev/null", what.name())
    }

    /// For bash.
    pub(in super::super) fn bash(script: &str) -> String {
        let mut script = script.to_owned();
        let words = r#""${COMP_WORDS[@]}""#;
        for (option, what) in OPTIONS {
            let asked = asked(what, words);
            script = script.replace(
                &format!("--{option})\n                    COMPREPLY=($(compgen -f \"${{cur}}\"))"),
                &format!("--{option})\n                    COMPREPLY=($(compgen -W \"$({asked})\" -- \"${{cur}}\"))"),
            );
        }
        // The words of the command that takes numbers come after its name.
        let Some((head, tail)) = script.split_once(REMOVE) else {
            return script;
        };
        let asked = asked(What::Overrides, words);
        format!("{head}{REMOVE}$({asked}) {tail}")
    }

    /// For zsh.
    pub(in super::super) fn zsh(script: &str) -> String {
        let lines = script.lines().map(|line| {
            let option = |(option, _): &&(&str, What)| line.contains(&format!("--{option}=["));
            let what = OPTIONS.iter().find(option).map(|(_, what)| *what);
            let is_id = line.contains("::ids -- ");
            let Some(what) = what.or(is_id.then_some(What::Overrides)) else {
                return line.to_owned();
            };
            let asked = asked(what, "${(z)LBUFFER}");
            line.replace(":_default'", &format!(":($({asked}))'"))
        });
        lines.collect::<Vec<_>>().join("\n") + "\n"
    }

    /// For fish.
    pub(in super::super) fn fish(script: &str) -> String {
        let words = "(commandline -opc)";
        let lines = script.lines().map(|line| {
            let option = |(option, _): &&(&str, What)| line.contains(&format!(" -l {option} "));
            match OPTIONS.iter().find(option) {
                Some((_, what)) => format!("{line} -f -a \"({})\"", asked(*what, words)),
                None => line.to_owned(),
            }
        });
        let numbers = format!(
            "complete -c ipfilter -n \"__fish_ipfilter_using_subcommand overrides; and \
             __fish_seen_subcommand_from remove\" -f -a \"({})\"",
            asked(What::Overrides, words)
        );
        // Before a command, clap's own condition fails where the name is still to come.
        let instance = format!(
            "complete -c ipfilter -l instance -r -f -a \"({})\"",
            asked(What::Instances, words)
        );
        lines
            .chain([numbers, instance])
            .collect::<Vec<_>>()
            .join("\n")
            + "\n"
    }
}
