//! A host of a fleet: what an agent offers to `ipfilter run`, and what becomes of it.

use std::{
    fs,
    io::{self, Read as _, Write as _},
    os::unix::net::UnixStream,
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use ipfilter_bundle::{
    Bundle, Digest, KeyPair, Kind, LARGEST, Release, SignedRelease, frame,
    message::{AgentReport, Answer, GroupOverrides, HostState, Outcome, Request},
};
use ipfilter_overrides::{Effect, Rule};
use rustix::process::Signal;
use testkit::process::Guard;

use crate::lab::{BAD, EVERYONE, GOOD, Lab, ONLY_BAD, ONLY_GOOD, PATIENCE, allow, statuses};

/// A host that follows the group `web`, and its publisher's key.
struct Host {
    lab: Lab,
    key: KeyPair,
    config: String,
}

impl Host {
    fn new(tag: &str) -> Self {
        let lab = Lab::new(tag);
        let key = KeyPair::generate().expect("a key");
        let text = format!(
            r#"{{"fleet": {{"follow": "etcd://192.0.2.1/web", "trusted_keys": ["{}"],
                "interfaces": {{"public": ["eth0"]}}}}}}"#,
            key.public()
        );
        let config = lab.write("ipfilter.json", text);
        Self { lab, key, config }
    }

    fn run(&self) -> Guard {
        self.lab.run(&["run", "--config", &self.config], &[])
    }

    fn socket(&self) -> PathBuf {
        self.lab
            .folder
            .join("run")
            .join(format!("{}.fleet", self.lab.key()))
    }

    fn connect(&self) -> UnixStream {
        let stream = UnixStream::connect(self.socket()).expect("a socket");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        stream
    }

    fn ask(&self, request: &Request, body: &[u8]) -> Answer {
        frame::ask(&mut self.connect(), request, body).expect("an answer")
    }

    fn state(&self) -> HostState {
        match self.ask(&Request::State, b"") {
            Answer::State(state) => *state,
            other => panic!("{other:?}"),
        }
    }

    fn generation(&self) -> Option<u64> {
        self.state().bundle.map(|bundle| bundle.generation)
    }

    fn signed(&self, generation: u64, content: &[u8]) -> SignedRelease {
        release(Kind::Bundle, generation, content).sign([&self.key])
    }

    fn offer(&self, release: SignedRelease, content: &[u8]) -> Outcome {
        match self.ask(&Request::Offer(release), content) {
            Answer::Outcome(outcome) => outcome,
            other => panic!("{other:?}"),
        }
    }

    /// Publishes a bundle.
    fn publish(&self, generation: u64, content: &[u8]) -> Outcome {
        self.offer(self.signed(generation, content), content)
    }

    /// Publishes overrides of the group.
    fn overrides(&self, generation: u64, rules: Vec<Rule>) -> Outcome {
        let content = GroupOverrides { overrides: rules }.encode().expect("JSON");
        let release = release(Kind::Overrides, generation, &content).sign([&self.key]);
        match self.ask(&Request::Overrides(release), &content) {
            Answer::Outcome(outcome) => outcome,
            other => panic!("{other:?}"),
        }
    }
}

fn release(kind: Kind, generation: u64, content: &[u8]) -> Release {
    Release {
        group: "web".parse().expect("a group"),
        kind,
        generation,
        digest: Digest::of(content),
    }
}

/// The bundle of a configuration with this text and this policy.
fn bundle_of(config: &str, policy: &str) -> Vec<u8> {
    let files = [("config.json", config), ("policies/api.json", policy)];
    let files = files.map(|(name, text)| (name.to_owned(), text.as_bytes().to_vec()));
    Bundle::new("config.json", files)
        .expect("a bundle")
        .encode()
}

const CONFIG: &str = r#"{"interfaces": ["$public"],
 "apis": [{"name": "api", "ports": [80], "policy": "policies/api.json", "deny": "reject"}]}"#;

fn letting_in(blocks: &[&str]) -> Vec<u8> {
    bundle_of(CONFIG, &allow(blocks))
}

fn refused(outcome: Outcome) -> String {
    match outcome {
        Outcome::Refused(why) => why,
        other => panic!("{other:?}"),
    }
}

/// From nothing to a bundle, the next one, a `kill -9`, a start without an agent, and a rollback on the host.
#[test]
fn a_host_enforces_what_its_group_is_to_have() {
    let host = Host::new("fleet");
    let lab = &host.lab;
    let filter = host.run();
    assert_eq!(statuses(lab), EVERYONE);
    assert_eq!(host.generation(), None);
    let (good, bad) = (letting_in(&GOOD), letting_in(&BAD));
    assert_eq!(host.publish(3, &good), Outcome::InForce);
    assert_eq!(statuses(lab), ONLY_GOOD);
    assert_eq!(host.publish(3, &good), Outcome::Unchanged);
    assert_eq!(host.publish(4, &bad), Outcome::InForce);
    assert_eq!(statuses(lab), ONLY_BAD);
    let state = host.state();
    assert_eq!(state.group.expect("a group").as_str(), "web");
    assert_eq!((state.highest, state.problems), (4, Vec::<String>::new()));
    // `statuses` asks over both families.
    assert!(
        state.packets.allowed > 0 && state.packets.denied > 0,
        "{:?}",
        state.packets
    );

    filter.signal(Signal::KILL).expect("it runs");
    drop(filter);
    assert_eq!(statuses(lab), ONLY_BAD);
    let filter = host.run();
    assert_eq!(statuses(lab), ONLY_BAD);
    assert_eq!(host.generation(), Some(4));
    assert!(refused(host.publish(3, &good)).contains("generation 3 is older than 4"));

    let (code, said) = lab.tell(&["rollback"]);
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(statuses(lab), ONLY_GOOD);
    assert_eq!(host.generation(), Some(3));
    let Outcome::Waiting(why) = host.publish(4, &bad) else {
        panic!("it is put in force again");
    };
    assert!(why.contains("`ipfilter reload`"), "{why}");
    assert_eq!(statuses(lab), ONLY_GOOD);
    let (code, said) = lab.tell(&["reload"]);
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(host.generation(), Some(4));
    assert_eq!(host.publish(5, &good), Outcome::InForce);
    lab.detach(filter);
}

/// Neither joining a fleet nor a state directory that is lost opens a host.
#[test]
fn a_host_is_not_open_until_the_first_bundle() {
    let host = Host::new("fleet-join");
    let lab = &host.lab;
    let fleet = fs::read_to_string(&host.config).expect("a configuration");
    lab.write("policy.json", allow(&GOOD));
    let own = CONFIG.replace("policies/api.json", "policy.json");
    lab.write("ipfilter.json", own.replace("$public", "eth0"));
    let filter = host.run();
    assert_eq!(statuses(lab), ONLY_GOOD);
    lab.write("ipfilter.json", fleet);
    let (code, said) = lab.tell(&["reload"]);
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(statuses(lab), ONLY_GOOD);
    assert_eq!(host.generation(), None);
    filter.stop(PATIENCE).expect("it ends");
    let filter = host.run();
    assert_eq!(statuses(lab), ONLY_GOOD);
    assert_eq!(host.publish(1, &letting_in(&BAD)), Outcome::InForce);
    assert_eq!(statuses(lab), ONLY_BAD);

    filter.stop(PATIENCE).expect("it ends");
    let state = lab.folder.join("state");
    fs::rename(&state, lab.folder.join("lost")).expect("a state");
    for variables in [&[][..], &[("NOTIFY_SOCKET", "/nowhere")]] {
        let mut run = lab.ipfilter(&["run", "--config", &host.config]);
        let output = run.envs(variables.iter().copied()).output();
        let output = output.expect("it starts");
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(
            said.contains("does not remember what it was made from"),
            "{said}"
        );
        assert_eq!(statuses(lab), ONLY_BAD);
    }
    fs::remove_dir_all(&state).expect("a state");
    fs::rename(lab.folder.join("lost"), &state).expect("a state");
    let filter = host.run();
    assert_eq!(host.generation(), Some(1));
    lab.detach(filter);
}

/// Whatever is wrong with a release: one sentence, and nothing has changed.
#[test]
fn what_is_wrong_is_refused_and_changes_nothing() {
    let host = Host::new("fleet-bad");
    let filter = host.run();
    let (good, bad) = (letting_in(&GOOD), letting_in(&BAD));
    assert_eq!(host.publish(7, &good), Outcome::InForce);
    let before = host.state();
    let stranger = KeyPair::generate().expect("a key");
    let next = || release(Kind::Bundle, 8, &bad);
    let other_group = Release {
        group: "api".parse().expect("a group"),
        ..next()
    };
    let mut damaged = bad.clone();
    let middle = damaged.len() / 2;
    damaged[middle] ^= 1;
    let mut later = bad.clone();
    later[19] = 2;
    let cases: [(SignedRelease, &[u8], &str); 9] = [
        (next().sign([]), &bad, "it is not signed"),
        (
            next().sign([&stranger]),
            &bad,
            "by one of this host's `trusted_keys`",
        ),
        (
            other_group.sign([&host.key]),
            &bad,
            "it is for the group `api`, and this host follows `web`",
        ),
        (host.signed(6, &bad), &bad, "generation 6 is older than 7"),
        (
            host.signed(7, &bad),
            &bad,
            "another bundle under generation 7",
        ),
        (
            host.signed(8, &bad),
            &damaged,
            "damaged or changed on its way",
        ),
        (host.signed(8, &later), &later, "a bundle of format 2"),
        (
            host.signed(8, &bad[..50]),
            &bad[..50],
            "it ends in the middle",
        ),
        (host.signed(8, b""), b"", "this is not a bundle"),
    ];
    for (release, content, said) in cases {
        let why = refused(host.offer(release, content));
        assert!(why.contains(said) && !why.contains('\n'), "{why}");
    }
    // With the file, the line and the column within the bundle.
    let config = CONFIG.replace("\"deny\"", "\"deny_more\": 1, \"deny\"");
    let content = bundle_of(&config, &allow(&BAD));
    let why = refused(host.publish(8, &content));
    assert!(
        why.contains("config.json:2:") && why.contains("no field `deny_more`"),
        "{why}"
    );
    let content = bundle_of(CONFIG, &allow(&BAD).replace("IpAddress", "IpAdress"));
    let why = refused(host.publish(8, &content));
    assert!(
        why.contains("policies/api.json:1:") && why.contains("IpAddress"),
        "{why}"
    );
    let content = bundle_of(&CONFIG.replace("$public", "$private"), &allow(&BAD));
    let why = refused(host.publish(8, &content));
    assert!(
        why.contains("`$private`") && why.contains("`fleet.interfaces`"),
        "{why}"
    );
    let content = bundle_of(&CONFIG.replace("$public", "none0"), &allow(&BAD));
    let why = refused(host.publish(8, &content));
    assert!(why.contains("no interface `none0`"), "{why}");

    let after = host.state();
    assert_eq!(after.bundle, before.bundle);
    assert_eq!((after.plan, after.highest), (before.plan, 7));
    assert_eq!(statuses(&host.lab), ONLY_GOOD);
    let (_, said) = host.lab.tell(&["status"]);
    assert!(said.contains("generation 8 is not in force"), "{said}");
    // None of them has taken the generation.
    assert_eq!(host.publish(8, &bad), Outcome::InForce);
    host.lab.detach(filter);
}

/// Clients that send too much, too slowly, nothing or nonsense, and several at once.
#[test]
fn hostile_clients_of_the_socket_do_no_harm() {
    let host = Host::new("fleet-mob");
    let filter = host.run();
    assert_eq!(host.publish(1, &letting_in(&GOOD)), Outcome::InForce);
    let answer = |bytes: &[u8]| {
        let mut stream = host.connect();
        // It may be cut off before it has sent all.
        let _: io::Result<()> = stream.write_all(bytes);
        let answer: io::Result<(Answer, Vec<u8>)> = frame::read(&mut stream, 0);
        let rest = stream.read(&mut [0]);
        assert!(!matches!(rest, Ok(1..)), "it goes on");
        answer
    };
    let too_large = [64u32.to_be_bytes(), u32::MAX.to_be_bytes()].concat();
    let long_header = [u32::MAX.to_be_bytes(), 0u32.to_be_bytes()].concat();
    for bytes in [&too_large, &long_header] {
        let Ok((Answer::Error(why), _)) = answer(bytes) else {
            panic!("no error");
        };
        assert!(why.contains("is the most"), "{why}");
    }
    let mut nonsense = 5u32.to_be_bytes().to_vec();
    nonsense.extend([0, 0, 0, 0]);
    nonsense.extend(b"{\"a\":");
    assert!(matches!(answer(&nonsense), Ok((Answer::Error(_), _))));
    let state = frame::begin(&Request::State, LARGEST).expect("a frame");
    assert!(matches!(answer(&state), Ok((Answer::Error(_), _))));

    // Some connect and say nothing, one is cut off in the middle of a bundle.
    let idle: Vec<_> = (0..3).map(|_| host.connect()).collect();
    let content = letting_in(&BAD);
    let begun = frame::begin(&Request::Offer(host.signed(2, &content)), content.len());
    let mut cut = host.connect();
    cut.write_all(&begun.expect("a frame"))
        .expect("it takes it");
    cut.write_all(&content[..20]).expect("it takes it");
    drop(cut);
    assert_eq!(host.generation(), Some(1));

    // Two agents at once: one after the other, and never back.
    thread::scope(|scope| {
        let offer = |generation| {
            let (host, content) = (&host, &content);
            scope.spawn(move || host.publish(generation, content))
        };
        let [three, four] = [offer(3), offer(4)].map(|it| it.join().expect("it ends"));
        assert_eq!(four, Outcome::InForce);
        assert!(
            three == Outcome::InForce || refused(three).contains("generation 3 is older than 4")
        );
    });
    assert_eq!(host.generation(), Some(4));
    assert_eq!(statuses(&host.lab), ONLY_BAD);
    drop(idle);
    host.lab.detach(filter);
}

/// Overrides of the group: in force within two seconds, kept across a start, and ended by the group only.
#[test]
fn overrides_of_the_group_are_above_the_policy() {
    let host = Host::new("fleet-over");
    let lab = &host.lab;
    let filter = host.run();
    assert_eq!(host.publish(1, &letting_in(&GOOD)), Outcome::InForce);
    let rules = |effect, blocks: &[&str]| -> Vec<Rule> {
        let rules = blocks.iter().map(|block| Rule {
            effect,
            source: block.parse().expect("a block"),
            api: None,
            until: None,
            reason: Some("an incident".into()),
        });
        rules.collect()
    };
    let start = Instant::now();
    assert_eq!(
        host.overrides(1, rules(Effect::Block, &GOOD)),
        Outcome::InForce
    );
    assert!(
        start.elapsed() < Duration::from_secs(20),
        "{:?}",
        start.elapsed()
    );
    assert_eq!(statuses(lab), ["000"; 4]);
    assert_eq!(
        host.overrides(1, rules(Effect::Block, &GOOD)),
        Outcome::Unchanged
    );
    assert_eq!(host.state().overrides.expect("overrides").generation, 1);
    let (code, said) = lab.tell(&["overrides", "remove", "1"]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("override 1 is one of the group"), "{said}");
    let unknown = Rule {
        api: Some("none".into()),
        ..rules(Effect::Allow, &BAD)[0].clone()
    };
    assert!(refused(host.overrides(2, vec![unknown])).contains("no API `none`"));
    filter.stop(PATIENCE).expect("it ends");
    let filter = host.run();
    assert_eq!(statuses(lab), ["000"; 4]);
    assert_eq!(
        host.overrides(2, rules(Effect::Allow, &BAD)),
        Outcome::InForce
    );
    assert_eq!(statuses(lab), EVERYONE);
    assert!(refused(host.overrides(1, Vec::new())).contains("older than 2"));
    assert_eq!(host.overrides(3, Vec::new()), Outcome::InForce);
    assert_eq!(statuses(lab), ONLY_GOOD);
    lab.detach(filter);
}

/// A change on trial keeps a bundle waiting; a host that lost its memory of generations takes none.
#[test]
fn a_bundle_waits_for_a_trial_and_a_lost_memory_accepts_nothing() {
    let host = Host::new("fleet-wait");
    let lab = &host.lab;
    let filter = host.run();
    assert_eq!(host.publish(1, &letting_in(&GOOD)), Outcome::InForce);
    let (code, said) = lab.tell(&["detach", "--for", "10m"]);
    assert_eq!(code, Some(0), "{said}");
    let bad = letting_in(&BAD);
    let Outcome::Waiting(why) = host.publish(2, &bad) else {
        panic!("it does not wait");
    };
    assert!(why.contains("detached for a while"), "{why}");
    let (code, said) = lab.tell(&["rollback"]);
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(statuses(lab), ONLY_GOOD);

    let memory = lab.folder.join("state").join(lab.key()).join("fleet.json");
    let kept = fs::read(&memory).expect("a memory");
    fs::write(&memory, &kept[..kept.len() - 5]).expect("it is damaged");
    let why = refused(host.publish(2, &bad));
    assert!(
        why.contains("it is not known what this host has accepted"),
        "{why}"
    );
    assert_eq!(statuses(lab), ONLY_GOOD);
    fs::write(&memory, &kept).expect("it is repaired");
    assert_eq!(host.publish(2, &bad), Outcome::InForce);
    lab.detach(filter);
}

/// What an agent says of itself is shown, and does nothing to a terminal; health stays what it is.
#[test]
fn the_agent_is_shown_in_status_and_metrics() {
    let host = Host::new("fleet-shown");
    let lab = &host.lab;
    let text = fs::read_to_string(&host.config).expect("a configuration");
    let metrics = lab.folder.join("metrics.sock");
    let text = text.replacen(
        '{',
        &format!("{{\"metrics\": \"unix:{}\", ", metrics.display()),
        1,
    );
    lab.write("ipfilter.json", text);
    let filter = host.run();
    let (_, said) = lab.tell(&["status"]);
    assert!(
        said.contains("no bundle of group `web` is in force"),
        "{said}"
    );
    assert!(said.contains("is `ipfilter-fleet`"), "{said}");
    assert_eq!(host.publish(1, &letting_in(&GOOD)), Outcome::InForce);
    let report = AgentReport {
        version: "1".into(),
        desired: Some(9),
        problem: Some("etcd does not answer\u{1b}[2J".into()),
    };
    assert!(matches!(
        host.ask(&Request::Report(report), b""),
        Answer::State(_)
    ));
    let (_, said) = lab.tell(&["status"]);
    let said = said.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(
        said.contains("generation 1 in force since") && said.contains("9 desired"),
        "{said}"
    );
    assert!(
        said.contains("etcd does not answer") && !said.contains('\u{1b}'),
        "{said}"
    );
    let get = |path: &str| {
        let mut stream = UnixStream::connect(&metrics).expect("a socket");
        write!(stream, "GET {path} HTTP/1.0\r\n\r\n").expect("it takes it");
        let mut page = String::new();
        stream.read_to_string(&mut page).expect("a page");
        page
    };
    let page = get("/metrics");
    assert!(
        page.contains("ipfilter_fleet_generation{group=\"web\",kind=\"in_force\"} 1"),
        "{page}"
    );
    assert!(
        page.contains("ipfilter_fleet_generation{group=\"web\",kind=\"desired\"} 9"),
        "{page}"
    );
    let page = get("/healthz");
    assert!(
        page.contains("200 OK") && page.contains("etcd does not answer"),
        "{page}"
    );
    lab.detach(filter);
}
