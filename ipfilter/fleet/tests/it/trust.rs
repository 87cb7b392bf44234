//! Who may do what: TLS, etcd's users and roles, signatures.

use std::{fs, net::Ipv4Addr, path::Path, process::Command};

use testkit::{
    etcd::{Cluster, Options},
    process::output,
};

use crate::{
    group::{Group, said},
    host::Host,
};

const OURS: &str = "198.51.100.0/24";
const THEIRS: &str = "203.0.113.0/24";

/// Runs OpenSSL.
fn openssl(folder: &Path, line: &str) {
    let program = testkit::tool("openssl", "openssl").unwrap();
    output(
        Command::new(program)
            .args(line.split(' '))
            .current_dir(folder),
    )
    .unwrap();
}

/// A certificate of the authority in `folder`, for `name`, which serves at these addresses.
fn certificate(folder: &Path, name: &str, addresses: &[Ipv4Addr]) {
    let names: Vec<_> = addresses.iter().map(|it| format!("IP:{it}")).collect();
    let names = if names.is_empty() {
        format!("DNS:{name}")
    } else {
        names.join(",")
    };
    fs::write(
        folder.join(format!("{name}.cnf")),
        format!("subjectAltName={names}\nextendedKeyUsage=serverAuth,clientAuth\n"),
    )
    .unwrap();
    openssl(
        folder,
        &format!(
            "req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout {name}.key -out {name}.csr -subj /CN={name}"
        ),
    );
    openssl(
        folder,
        &format!(
            "x509 -req -in {name}.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -out {name}.pem -extfile {name}.cnf"
        ),
    );
}

fn authority(folder: &Path) {
    openssl(
        folder,
        "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout ca.key -out ca.pem -days 2 -subj /CN=authority",
    );
}

/// The commands of the guide, with the names of its example replaced.
fn documented(replace: &[(&str, &str)]) -> Vec<String> {
    let guide = include_str!("../../../docs/guide/publishing.md");
    let begin = guide
        .find("```sh\netcdctl user add root")
        .expect("the commands")
        + "```sh\n".len();
    let block = &guide[begin..begin + guide[begin..].find("```").unwrap()];
    let mut text = block.replace("\\\n", " ");
    for (from, to) in replace {
        text = text.replace(from, to);
    }
    text.lines()
        .filter(|line| line.starts_with("etcdctl "))
        .map(|line| {
            line.split_whitespace()
                .skip(1)
                .collect::<Vec<_>>()
                .join(" ")
        })
        .collect()
}

fn ctl(etcd: &Cluster, line: &str) -> Result<String, anyhow::Error> {
    output(etcd.ctl_command(0).unwrap().args(line.split(' ')))
}

#[test]
fn hosts_have_the_least_rights_by_certificates_and_etcds_roles() {
    let folder = tempfile::tempdir().unwrap();
    let files = folder.path();
    authority(files);
    // The first two machines of the group's network.
    certificate(files, "etcd", &[Ipv4Addr::new(10, 77, 1, 2)]);
    for name in ["root", "publisher", "web-1", "stranger"] {
        certificate(files, name, &[]);
    }
    let path = |name: &str| files.join(name).display().to_string();
    let options = Options {
        arguments: [
            "--cert-file",
            &path("etcd.pem"),
            "--key-file",
            &path("etcd.key"),
        ]
        .into_iter()
        .chain(["--client-cert-auth", "--trusted-ca-file", &path("ca.pem")])
        .map(str::to_owned)
        .collect(),
        tls: true,
        ctl: [
            "--cacert",
            &path("ca.pem"),
            "--cert",
            &path("root.pem"),
            "--key",
            &path("root.key"),
        ]
        .map(str::to_owned)
        .into(),
    };
    let mut group = Group::with("trust", 1, options);
    for line in documented(&[]) {
        ctl(&group.etcd, &line).unwrap();
    }
    let access = |name: &str| {
        [
            "--ca".to_owned(),
            path("ca.pem"),
            "--cert".to_owned(),
            path(&format!("{name}.pem")),
            "--key".to_owned(),
            path(&format!("{name}.key")),
        ]
        .to_vec()
    };
    group.access = access("web-1");
    group.add("web-1");
    group.access = access("publisher");
    let (code, text) = group.publish(&[OURS], &[]);
    assert_eq!(code, Some(0), "{text}");
    group.wait("it is in force", || group.hosts[0].generation() == Some(1));
    group.wait("it reports", || group.status().0 == Some(0));
    group.must(&["block", "203.0.113.7", "--for", "1h"]);

    // A host can neither publish, nor report for another, nor read what is not its business.
    group.access = access("web-1");
    let (code, text) = group.publish(&[THEIRS], &[]);
    assert_eq!(code, Some(1), "{text}");
    assert!(
        text.contains("etcd refuses it: permission denied"),
        "{text}"
    );
    let (code, text) = group.run(&["block", "198.51.100.1", "--for", "1h"]);
    assert_eq!(code, Some(1), "{text}");
    group.access = access("web-1");
    let posing = Host::new("web-2", group.folder.path());
    let agent = group.agent(&posing, "web-2");
    group.wait("it is refused", || {
        posing.said().contains("etcd refuses it: permission denied")
    });
    drop(agent);
    // Someone whose certificate is good, and whom etcd does not know; and someone without one.
    group.access = access("stranger");
    let (code, text) = group.run(&["status"]);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("etcd refuses it"), "{text}");
    group.access = vec!["--ca".to_owned(), path("ca.pem")];
    let (code, text) = group.run(&["status"]);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.starts_with("error: etcd"), "{text}");
    group.access.clear();
    let (code, text) = group.run(&["status"]);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("etcd can't be reached"), "{text}");
    assert_eq!(group.hosts[0].generation(), Some(1));
}

#[test]
fn users_log_in_with_passwords() {
    let mut group = Group::new("password", 1);
    for line in documented(&[]) {
        // Nobody has a password in the guide, where certificates say who it is.
        let line = line.replace("--no-password", "--new-user-password secret");
        ctl(&group.etcd, &line).unwrap();
    }
    let file = |name: &str, text: &str| {
        let path = group.folder.path().join(name);
        fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let (right, wrong) = (file("right", "secret\n"), file("wrong", "guess\n"));
    let access = |file: &str| {
        ["--user", "publisher", "--password-file", file]
            .map(str::to_owned)
            .to_vec()
    };
    group.access = access(&right);
    let (code, text) = group.publish(&[OURS], &["--no-wait"]);
    assert_eq!(code, Some(0), "{text}");
    group.access = access(&wrong);
    let (code, text) = group.publish(&[THEIRS], &["--no-wait"]);
    assert_eq!(code, Some(1), "{text}");
    assert!(
        text.contains("etcd refuses it: authentication failed"),
        "{text}"
    );
    group.access.clear();
    let (code, text) = group.run(&["status"]);
    assert_eq!(code, Some(1), "{text}");
    assert!(
        text.contains("etcd refuses it: user name is empty"),
        "{text}"
    );
}

#[test]
fn a_host_with_trusted_keys_takes_what_they_signed_alone() {
    let mut group = Group::new("signed", 1);
    let keygen = |name: &str| {
        let path = group.folder.path().join(name).display().to_string();
        let (code, public) =
            said(Command::new(env!("CARGO_BIN_EXE_ipfilter-fleet")).args(["keygen", &path]));
        assert_eq!(code, Some(0), "{public}");
        (path, public.trim().parse().unwrap())
    };
    let ((ours, public), (strangers, _)) = (keygen("ours"), keygen("strangers"));
    let mode = std::os::unix::fs::MetadataExt::mode(&fs::metadata(&ours).unwrap());
    assert_eq!(mode & 0o777, 0o600);
    group.add("a");
    group.hosts[0].filter.lock().unwrap().trusted = vec![public];
    let (code, text) = group.publish(&[OURS], &["--sign-key", &ours]);
    assert_eq!(code, Some(0), "{text}");
    group.wait("it is in force", || group.hosts[0].generation() == Some(1));
    group.gathered();
    for (key, told) in [
        (
            &["--sign-key", &strangers][..],
            "no signature of it is by one of this host's `trusted_keys`",
        ),
        (&[], "it is not signed"),
    ] {
        let (code, text) = group.publish(&[THEIRS], key);
        assert_eq!(code, Some(1), "{text}");
        assert!(text.contains(told), "{text}");
        let filter = group.hosts[0].filter.lock().unwrap();
        assert_eq!(filter.enforced.len(), 1, "{text}");
    }
    let (code, text) = group.publish(&[THEIRS], &["--sign-key", &ours]);
    assert_eq!(code, Some(0), "{text}");
    // Overrides are signed, too: who can write to etcd can let nobody in.
    group.must(&["allow", "203.0.113.9", "--for", "1h"]);
    group.wait("it is refused", || {
        group.hosts[0].said().contains("it is not signed")
    });
    assert!(
        group.hosts[0]
            .filter
            .lock()
            .unwrap()
            .overrides
            .overrides
            .is_empty()
    );
    group.must(&["allow", "203.0.113.9", "--for", "1h", "--sign-key", &ours]);
    group.wait("it is in force", || {
        !group.hosts[0]
            .filter
            .lock()
            .unwrap()
            .overrides
            .overrides
            .is_empty()
    });
}
