//! Completions by real shells, of names that are there.

use std::{path::Path, process::Command};

use testkit::{
    process::Guard,
    program::{FISH, Program, ZSH},
};

use crate::{
    lab::{GOOD, Lab, allow},
    terminal::{Terminal, line},
};

/// A filter with one override, and the completions for all shells in the lab's folder.
fn filter(lab: &Lab) -> Guard {
    let policy = lab.write("policy.json", allow(&GOOD));
    let filter = lab.filter(&["--policy", &policy]);
    let (code, said) = lab.tell(&["block", "192.0.2.7", "--for", "1h"]);
    assert_eq!(code, Some(0), "{said}");
    let (code, said) = lab.tell(&["manual", &lab.folder.display().to_string()]);
    assert_eq!(code, Some(0), "{said}");
    filter
}

/// A shell in the host's namespace, with `ipfilter` in its path as it is installed.
fn shell(lab: &Lab, program: &Command) -> Command {
    let binary = Path::new(env!("CARGO_BIN_EXE_ipfilter"));
    let folder = binary.parent().expect("a folder").display();
    let path = std::env::var("PATH").unwrap_or_default();
    let named = lab.ipfilter(&[]);
    let mut command: Command = lab.network.host.command(program.get_program());
    for (name, value) in program.get_envs().chain(named.get_envs()) {
        command.env(name, value.unwrap_or_default());
    }
    command
        .env("PATH", format!("{folder}:{path}"))
        // Nobody's own settings.
        .env("HOME", &lab.folder)
        .env("ZDOTDIR", &lab.folder)
        .env("XDG_CONFIG_HOME", &lab.folder)
        .env("XDG_DATA_HOME", &lab.folder);
    command
}

/// The folder that a fetched shell's own files are in.
fn share(program: Program) -> String {
    let command = program.command().expect("the shell");
    let home = Path::new(command.get_program()).parent().expect("a folder");
    home.display().to_string()
}

/// What a script of shell prints, in lines.
fn printed(mut command: Command) -> Vec<String> {
    let output = command.output().expect("a shell");
    assert!(
        output.status.success() && output.stderr.is_empty(),
        "{output:?}"
    );
    let offered = String::from_utf8(output.stdout).expect("UTF-8");
    offered.lines().map(Into::into).collect()
}

/// What bash offers for the last of these words.
fn bash(lab: &Lab, words: &[&str]) -> Vec<String> {
    let script = r#"source "$0/ipfilter.bash"
        COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
        _ipfilter ipfilter "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
        printf '%s\n' "${COMPREPLY[@]}""#;
    let mut command = shell(lab, &Command::new("bash"));
    command.args(["-c", script]).arg(&lab.folder).args(words);
    printed(command)
}

#[test]
fn bash_completes_instances_interfaces_and_overrides() {
    let lab = Lab::new("complete");
    let filter = filter(&lab);
    let own = lab.instance.as_str();
    let half = own.get(..own.len() - 3).expect("a name");
    assert!(bash(&lab, &["ipfilter", "--instance", half]).contains(&own.to_owned()));
    assert_eq!(
        bash(&lab, &["ipfilter", "run", "--interface", "et"]),
        ["eth0"]
    );
    let remove = ["ipfilter", "--instance", own, "overrides", "remove"];
    assert!(bash(&lab, &[&remove[..], &[""]].concat()).contains(&"1".to_owned()));
    assert_eq!(bash(&lab, &[&remove[..], &["9"]].concat()), [""]);
    lab.detach(filter);
}

/// What fish offers for the last word of a line; descriptions come after a tab.
fn fish(lab: &Lab, line: &str) -> Vec<String> {
    let program = FISH.command().expect("fish");
    let script = format!(
        "set fish_function_path {}/share/functions\nsource {}/ipfilter.fish\ncomplete -C $argv[1]",
        share(FISH),
        lab.folder.display()
    );
    let mut command = shell(lab, &program);
    command.args(["--no-config", "-c", &script, line]);
    let offered = printed(command).into_iter();
    let word = |line: String| line.split('\t').next().unwrap_or_default().to_owned();
    offered.map(word).collect()
}

#[test]
fn fish_completes_instances_interfaces_and_overrides() {
    let lab = Lab::new("complete-fish");
    let filter = filter(&lab);
    let own = lab.instance.as_str();
    let half = own.get(..own.len() - 3).expect("a name");
    assert_eq!(fish(&lab, &format!("ipfilter --instance {half}")), [own]);
    assert_eq!(fish(&lab, "ipfilter run --interface et"), ["eth0"]);
    let remove = format!("ipfilter --instance {own} overrides remove ");
    assert!(fish(&lab, &remove).contains(&"1".to_owned()));
    assert!(fish(&lab, &format!("{remove}9")).is_empty());
    lab.detach(filter);
}

/// Typed on a terminal, with the key that completes.
#[test]
fn zsh_completes_instances_interfaces_and_overrides() {
    let lab = Lab::new("complete-zsh");
    let filter = filter(&lab);
    let (own, folder) = (lab.instance.as_str(), lab.folder.display());
    let home = share(ZSH);
    lab.write(
        ".zshenv",
        format!(
            "module_path=({home}/lib/*/zsh/*(/))\nfpath=({folder} {home}/share/functions/**/*(/))\n"
        ),
    );
    lab.write(
        ".zshrc",
        "autoload -Uz compinit && compinit -u -D\nPS1='ready> '\n",
    );
    let mut command = shell(&lab, &ZSH.command().expect("zsh"));
    command.arg("-i");
    let terminal = Terminal::new(&format!("{own}-zsh"), &line(&command, ""));
    terminal.wait(|shown| shown.contains("ready>"));
    let half = own.get(..own.len() - 3).expect("a name");
    let remove = format!("ipfilter --instance {own} overrides remove ");
    for (typed, completed) in [
        (
            format!("ipfilter --instance {half}"),
            format!("ipfilter --instance {own} "),
        ),
        (
            "ipfilter run --interface et".into(),
            "ipfilter run --interface eth0 ".into(),
        ),
        (remove.clone(), format!("{remove}1 ")),
    ] {
        terminal.keys(&["-l", &typed]);
        terminal.keys(&["Tab"]);
        // What follows shows where the line ends.
        terminal.keys(&["-l", "end"]);
        terminal.wait(|shown| shown.contains(&format!("ready> {completed}end")));
        terminal.keys(&["C-u"]);
    }
    lab.detach(filter);
}
