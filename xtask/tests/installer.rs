//! The tarball's installer on hosts that it can't serve: one sentence each, and nothing changed.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that can't go on fails"
)]

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::PathBuf,
    process::{Command, Output},
};

use testkit::target_dir;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../ipfilter/dist/install.sh");

/// An unpacked tarball with a program that only says its version, and programs that say what the host is.
struct Case {
    folder: PathBuf,
}

impl Case {
    fn new(name: &str) -> Self {
        let folder = target_dir().unwrap().join("installer").join(name);
        let _ = fs::remove_dir_all(&folder);
        let case = Self { folder };
        case.script("tree/usr/bin/ipfilter", "echo ipfilter 0.1.0");
        case.write("tree/etc/ipfilter/ipfilter.json", "{}\n");
        for page in ["README.md", "docs/guide/first.md", "docs/reference/last.md"] {
            case.write(&format!("tree/usr/share/doc/ipfilter/{page}"), "read me\n");
        }
        let script = fs::read_to_string(SCRIPT).unwrap();
        case.write(
            "tree/install.sh",
            &script.replace("@ARCHITECTURE@", "x86_64"),
        );
        fs::create_dir_all(case.folder.join("bin")).unwrap();
        fs::create_dir_all(case.folder.join("root")).unwrap();
        case
    }

    fn write(&self, path: &str, text: &str) {
        let file = self.folder.join(path);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, text).unwrap();
    }

    fn script(&self, path: &str, line: &str) {
        self.write(path, &format!("#!/bin/sh\n{line}\n"));
        let mode = fs::Permissions::from_mode(0o755);
        fs::set_permissions(self.folder.join(path), mode).unwrap();
    }

    fn root(&self) -> PathBuf {
        self.folder.join("root")
    }

    /// Runs it below the folder `root`, after `before` in a mount namespace of its own.
    fn below_root(&self, before: &str, arguments: &[&str]) -> Output {
        let line = format!("root=$1; shift; {before} exec sh \"$@\"");
        Command::new("unshare")
            .args(["--mount", "--propagation=private", "sh", "-ec", &line, "sh"])
            .arg(self.root())
            .arg(self.folder.join("tree/install.sh"))
            .args(arguments)
            .env("DESTDIR", self.root())
            .output()
            .unwrap()
    }

    /// Runs it as on a host of which the programs in `bin` tell.
    fn on_host(&self) -> Output {
        let path = format!(
            "{}:{}",
            self.folder.join("bin").display(),
            std::env::var("PATH").unwrap()
        );
        Command::new("sh")
            .arg(self.folder.join("tree/install.sh"))
            .env("PATH", path)
            .output()
            .unwrap()
    }
}

impl Drop for Case {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_host_that_is_not_served_is_told_why_in_one_sentence() {
    let cases = [
        (
            "architecture",
            "uname",
            "[ \"$1\" = -m ] && echo aarch64 || echo 6.1.0",
            "these programs are for x86_64, and this host is aarch64: take the archive for aarch64",
        ),
        (
            "kernel",
            "uname",
            "[ \"$1\" = -m ] && echo x86_64 || echo 5.4.0-150-generic",
            "this host runs Linux 5.4.0-150-generic, and ipfilter needs 5.10 or later: boot a newer kernel",
        ),
        (
            "old",
            "uname",
            "[ \"$1\" = -m ] && echo x86_64 || echo 4.19.0-27-amd64",
            "this host runs Linux 4.19.0-27-amd64, and ipfilter needs 5.10 or later: boot a newer kernel",
        ),
        (
            "user",
            "id",
            "echo 1000",
            "it needs root: run it as root or with sudo",
        ),
    ];
    for (name, program, answer, sentence) in cases {
        let case = Case::new(name);
        case.script(&format!("bin/{program}"), answer);
        let output = case.on_host();
        assert_eq!(output.status.code(), Some(1), "{name}");
        assert_eq!(said(&output), format!("install.sh: {sentence}\n"), "{name}");
    }
}

#[test]
fn file_systems_that_do_not_serve_are_named() {
    for (name, before, sentence) in [
        (
            "noexec",
            "mount -t tmpfs -o noexec tmpfs \"$root\";",
            "/usr/bin/ipfilter does not start: is /usr mounted with noexec?",
        ),
        (
            "read-only",
            "mount -t tmpfs -o ro tmpfs \"$root\";",
            "is the file system read-only?",
        ),
    ] {
        let case = Case::new(name);
        let output = case.below_root(before, &[]);
        assert_eq!(output.status.code(), Some(1), "{name}");
        let said = said(&output);
        assert!(said.contains(sentence), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
    }
}

#[test]
fn what_is_installed_is_removed_and_configuration_stays() {
    let case = Case::new("whole");
    let exists = |path: &str| case.root().join(path).exists();
    let output = case.below_root("", &[]);
    assert!(output.status.success(), "{}", said(&output));
    assert!(exists("usr/bin/ipfilter") && exists("etc/ipfilter/ipfilter.json"));
    // An operator's change stays, and the new file is put beside it.
    case.write("root/etc/ipfilter/ipfilter.json", "{\"mine\": 1}\n");
    let again = case.below_root("", &[]);
    let stdout = String::from_utf8_lossy(&again.stdout);
    assert!(
        stdout.contains("kept /etc/ipfilter/ipfilter.json"),
        "{stdout}"
    );
    assert!(exists("etc/ipfilter/ipfilter.json.dist"));
    let output = case.below_root("", &["--remove"]);
    assert!(output.status.success(), "{}", said(&output));
    assert!(!exists("usr/bin/ipfilter") && !exists("usr/share/doc/ipfilter"));
    let kept = fs::read_to_string(case.root().join("etc/ipfilter/ipfilter.json")).unwrap();
    assert_eq!(kept, "{\"mine\": 1}\n");
    let output = case.below_root("", &["--remove"]);
    assert!(said(&output).contains("not installed by this script"));
}
