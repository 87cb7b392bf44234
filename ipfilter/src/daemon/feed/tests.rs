use super::{conversation::Sent, *};
use crate::view::services::{Service, ServiceState};

fn prepared(name: &str) -> Arc<Prepared> {
    Arc::new(Prepared {
        digest: name.into(),
        line: format!("policies {name}").into_bytes(),
    })
}

/// The digest of the plan that comes with policies of this name.
fn plan(name: &str) -> String {
    name.repeat(64)
}

/// That the order with policies of this name is served.
fn serving(name: &str) -> Reply {
    Reply::Serving(order(name).name.clone())
}

fn order(name: &str) -> Arc<Order> {
    Arc::new(Order {
        digest: name.into(),
        name: format!("{}/1", plan(name)),
        since: Timestamp::UNIX_EPOCH,
        line: format!("serve {name}").into_bytes(),
    })
}

fn state(now: &str, next: Option<&str>) -> State {
    State {
        now: Some(prepared(now)),
        next: next.map(prepared),
        order: Some(order(now)),
        user: User::default(),
        wanted: Arc::default(),
    }
}

#[track_caller]
fn check(sent: &mut Sent, state: &State, wanted: &[&str]) {
    let lines = sent.missing(state);
    let lines: Vec<_> = lines
        .iter()
        .map(|line| String::from_utf8_lossy(line.bytes()))
        .collect();
    assert_eq!(lines, wanted);
}

#[test]
fn a_service_is_sent_what_it_lacks_and_nothing_twice() {
    let mut sent = Sent::default();
    let first = state("a", None);
    check(&mut sent, &first, &["policies a", "serve a"]);
    check(&mut sent, &first, &[]);
    // The next policies are there before they are served, and are served by their name alone.
    let mut about = first.clone();
    about.next = Some(prepared("b"));
    check(&mut sent, &about, &["policies b"]);
    check(&mut sent, &state("b", None), &["serve b"]);
    // Overrides and boundaries of time change the order alone.
    check(&mut sent, &state("b", None), &["serve b"]);
    // A plan that was never deployed, and the one before again.
    check(
        &mut sent,
        &state("b", Some("c")),
        &["serve b", "policies c"],
    );
    check(&mut sent, &state("a", None), &["policies a", "serve a"]);
}

#[test]
fn a_plan_waits_for_services_and_for_none_that_is_gone() {
    let feed = in_force();
    let long = Duration::from_secs(60);
    assert!(feed.wait(long, |_| false), "there is none");
    let id = feed.connected(7, Some(42));
    feed.replied(id, Reply::Ready("a".into()));
    feed.replied(id, serving("a"));
    assert!(feed.wait(long, |one| one.answered.digest == "a"));
    let services = || {
        let services = feed.services().unwrap();
        (services.current(), services.behind())
    };
    assert_eq!(services(), (1, 0));
    feed.0.state.send_modify(|all| *all = state("b", None));
    assert_eq!(services(), (0, 1));
    let waiting = feed.clone();
    let waits = std::thread::spawn(move || waiting.wait(long, |one| one.answered.digest == "b"));
    feed.gone(id);
    assert!(waits.join().unwrap());
}

/// A feed by which the order `order a` is in force.
fn in_force() -> Feed {
    let feed = Feed::default();
    feed.0.state.send_modify(|all| *all = state("a", None));
    feed
}

const SHORT: Duration = Duration::from_millis(10);
const LONG: Duration = Duration::from_secs(60);

#[test]
fn a_service_that_says_nothing_is_waited_for_once() {
    let feed = in_force();
    feed.connected(7, Some(42));
    assert!(!feed.wait(SHORT, |one| one.answered.digest == "a"));
    assert!(feed.wait(LONG, |one| one.answered.digest == "a"));
}

#[test]
fn a_service_that_was_late_is_waited_for_once_it_decides_by_the_plan_in_force() {
    let feed = in_force();
    let id = feed.connected(7, Some(42));
    assert!(!feed.wait(SHORT, |one| one.answered.digest == "b"));
    // What it says late, and of other plans, and that it counts, changes nothing.
    for reply in [
        Reply::Ready("b".into()),
        Reply::Unusable("b".into()),
        serving("b"),
        Reply::Counted(Report::default()),
    ] {
        feed.replied(id, reply);
        assert!(feed.wait(LONG, |_| false));
    }
    feed.replied(id, serving("a"));
    assert!(!feed.wait(SHORT, |_| false));
}

/// A hostile service that connects anew, or is on time once and late the next time, can't delay every plan.
#[test]
fn services_are_waited_for_in_vain_for_a_bounded_time_in_all() {
    let feed = in_force();
    feed.followers().patience.left(Instant::now());
    feed.followers()
        .patience
        .spend(Duration::from_millis(14_980));
    let start = Instant::now();
    for _ in 0..100 {
        let id = feed.connected(7, Some(42));
        feed.wait(LONG, |_| false);
        feed.replied(id, serving("a"));
        feed.wait(LONG, |_| false);
        feed.gone(id);
    }
    assert!(start.elapsed() < LONG / 2, "{:?}", start.elapsed());
    // One that is on time costs nothing, and is not late for the next.
    let id = feed.connected(7, Some(42));
    feed.replied(id, serving("a"));
    assert!(feed.wait(LONG, |one| one.serving == order("a").name));
}

#[test]
fn reports_are_kept_and_decide_nothing() {
    let feed = in_force();
    let wanted = Wanted {
        apis: vec!["api".to_owned()],
        log_denied: true,
    };
    feed.0
        .state
        .send_modify(|state| state.wanted = Arc::new(wanted));
    let line = r#"counted {"decided": [{"api": "api", "allowed": true, "statement": "0", "requests": 7}],
        "refused": [{"reason": "untrusted", "requests": 2}],
        "denied": [{"time": "2026-01-01T00:00:00Z", "api": "api", "reason": "implicit_deny", "statement": null,
                    "source": "203.0.113.7", "method": "GET", "path": "/a"}], "unreported": 4}"#;
    let id = feed.connected(7, Some(42));
    feed.replied(id, line.replace('\n', "").parse().unwrap());
    let requests = feed.requests(Some(0));
    assert_eq!((requests.count, requests.unreported), (5, 4));
    assert_eq!(requests.denied.len(), 1);
    assert_eq!(requests.decided[0].requests, 7);
    assert_eq!(requests.refused[0].requests, 2);
    assert_eq!(feed.services().map(|all| all.current()), Some(0));
    // Its counters go with it.
    feed.gone(id);
    assert_eq!(feed.requests(Some(5)).decided, []);
    assert_eq!(feed.requests(None).denied, []);
}

#[test]
fn it_is_known_how_far_each_service_is_and_since_when() {
    let feed = in_force();
    let start = Timestamp::now();
    let only = || -> Service {
        let services = feed.services().unwrap();
        assert_eq!((services.plan, services.gone), (plan("a"), None));
        services.connected.into_iter().next().unwrap()
    };
    assert_eq!(feed.services().unwrap().gone, None, "none has connected");
    let id = feed.connected(7, Some(42));
    let late = only();
    assert_eq!((late.uid, late.pid), (7, Some(42)));
    assert_eq!((late.state, late.digest), (ServiceState::Late, None));
    assert!(late.since >= start);
    feed.replied(id, serving("b"));
    assert_eq!(
        (only().state, only().digest),
        (ServiceState::Late, Some(plan("b")))
    );
    feed.replied(id, Reply::Unusable("a".into()));
    feed.replied(id, serving("a"));
    assert_eq!(only().state, ServiceState::Unusable);
    feed.replied(id, Reply::Ready("a".into()));
    assert_eq!(only().state, ServiceState::Serving);
    assert_eq!(only().digest, Some(plan("a")));
    // What it says is shown on terminals.
    feed.replied(id, Reply::Serving("\u{1b}[2J/1".into()));
    assert_eq!(only().digest, None);
    feed.gone(id);
    let services = feed.services().unwrap();
    assert!(services.connected.is_empty() && services.gone.is_some_and(|gone| gone >= start));
}
