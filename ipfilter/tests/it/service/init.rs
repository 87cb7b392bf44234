//! `init`: what it writes, what it shows, and that it overwrites nothing.

use std::{
    fs,
    io::Read as _,
    net::{TcpListener, TcpStream},
    thread,
};

use testkit::netns::HOST;

use crate::lab::{Lab, inside};

const PORT: u16 = 8080;

#[test]
fn a_first_configuration_is_written_and_shows_who_is_connected() {
    let lab = Lab::empty("init");
    let folder = lab.folder.join("new");
    let config = folder.join("edge.json").display().to_string();
    let init = [
        "init",
        "--config",
        &config,
        "--interface",
        "eth0",
        "--port",
        "8080,9000-9010",
    ];
    let (code, said) = lab.tell(&init);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("give `--allow` as well"), "{said}");
    assert!(!folder.exists());

    let allowed = ["--allow", "198.51.100.0/24,10.0.0.0/8,2001:db8:100::/48"];
    let said = thread::scope(|scope| {
        let server = inside(scope, &lab.network.host, || {
            TcpListener::bind((HOST.v4, PORT)).expect("a port")
        });
        let server = server.join().expect("no panic");
        let clients = [&lab.network.allowed, &lab.network.denied].map(|client| {
            let client = inside(scope, client, || TcpStream::connect((HOST.v4, PORT)));
            client.join().expect("no panic").expect("a connection")
        });
        let accepted = [0, 1].map(|_| server.accept().expect("a client").0);
        let (code, said) = lab.tell(&[&init[..], &allowed].concat());
        assert_eq!(code, Some(0), "{said}");
        drop(clients);
        for mut client in accepted {
            assert_eq!(client.read(&mut [0]).expect("it ends"), 0);
        }
        said
    });
    for text in [
        "denied    203.0.113.",
        "may call  198.51.100.",
        "exact",
        "--confirm 60s",
        "ipfilter confirm",
    ] {
        assert!(said.contains(text), "{text}: {said}");
    }
    let (code, said) = lab.tell(&["check", "--config", &config]);
    assert!(code == Some(0) && !said.contains("warning"), "{said}");
    let source = [
        "explain",
        "--format",
        "text",
        "--source",
        "10.1.2.3,192.0.2.1",
        "--policy",
    ];
    let policy = folder.join("api.json").display().to_string();
    let (_, said) = lab.tell(&[&source[..], &[&policy]].concat());
    assert!(
        said.contains("10.1.2.3 allow") && said.contains("192.0.2.1 deny"),
        "{said}"
    );

    let written = fs::read_to_string(&config).expect("a file");
    let (code, said) = lab.tell(&[&init[..], &allowed].concat());
    assert!(
        code == Some(2) && said.contains("is not overwritten"),
        "{said}"
    );
    assert_eq!(fs::read_to_string(&config).expect("a file"), written);
    // What it wrote can be deployed as it says.
    let filter = lab.run(&["run", "--config", &config, "--confirm", "10m"], &[]);
    let (code, said) = lab.tell(&["confirm"]);
    assert_eq!(code, Some(0), "{said}");
    lab.detach(filter);
}
