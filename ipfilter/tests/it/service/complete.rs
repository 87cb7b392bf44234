//! Completions by a real shell, of names that are there.

use std::{fs, path::Path, process::Command};

use crate::lab::{GOOD, Lab, allow};

/// What bash offers for the last of these words, with `ipfilter` in its path as it is installed.
fn offered(lab: &Lab, words: &[&str]) -> Vec<String> {
    let script = r#"source "$0/ipfilter.bash"
        COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
        _ipfilter ipfilter "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
        printf '%s\n' "${COMPREPLY[@]}""#;
    let binary = Path::new(env!("CARGO_BIN_EXE_ipfilter"));
    let folder = binary.parent().expect("a folder").display();
    let path = std::env::var("PATH").unwrap_or_default();
    let named = lab.ipfilter(&[]);
    let mut command: Command = lab.network.host.command("bash");
    command.args(["-c", script]).arg(&lab.folder).args(words);
    for (name, value) in named.get_envs() {
        command.env(name, value.unwrap_or_default());
    }
    let output = command
        .env("PATH", format!("{folder}:{path}"))
        .output()
        .expect("bash");
    assert!(
        output.status.success() && output.stderr.is_empty(),
        "{output:?}"
    );
    let offered = String::from_utf8(output.stdout).expect("UTF-8");
    offered.lines().map(Into::into).collect()
}

#[test]
fn bash_completes_instances_interfaces_and_overrides() {
    let lab = Lab::new("complete");
    let policy = lab.write("policy.json", allow(&GOOD));
    let filter = lab.filter(&["--policy", &policy]);
    let (code, said) = lab.tell(&["block", "192.0.2.7", "--for", "1h"]);
    assert_eq!(code, Some(0), "{said}");
    let (code, said) = lab.tell(&["manual", &lab.folder.display().to_string()]);
    assert_eq!(code, Some(0), "{said}");
    let own = lab.instance.as_str();
    let half = own.get(..own.len() - 3).expect("a name");
    assert!(offered(&lab, &["ipfilter", "--instance", half]).contains(&own.to_owned()));
    assert_eq!(
        offered(&lab, &["ipfilter", "run", "--interface", "et"]),
        ["eth0"]
    );
    let remove = ["ipfilter", "--instance", own, "overrides", "remove"];
    assert!(offered(&lab, &[&remove[..], &[""]].concat()).contains(&"1".to_owned()));
    assert_eq!(offered(&lab, &[&remove[..], &["9"]].concat()), [""]);
    // Others say it in their own way.
    for (file, asked) in [
        ("_ipfilter", ":NAME:($(ipfilter complete instances -- "),
        (
            "_ipfilter",
            "::ids -- Their numbers:($(ipfilter complete overrides -- ",
        ),
        ("ipfilter.fish", " -a \"(ipfilter complete interfaces -- "),
        ("ipfilter.fish", " -a \"(ipfilter complete overrides -- "),
    ] {
        let script = fs::read_to_string(lab.folder.join(file)).expect("a script");
        assert!(script.contains(asked), "{file}: {asked}");
    }
    lab.detach(filter);
}
