use super::{follower::Sent, *};

fn prepared(name: &str) -> Arc<Prepared> {
    Arc::new(Prepared {
        digest: name.into(),
        line: format!("policies {name}").into_bytes(),
    })
}

fn order(name: &str) -> Arc<Order> {
    Arc::new(Order {
        digest: name.into(),
        line: format!("serve {name}").into_bytes(),
    })
}

fn state(now: &str, next: Option<&str>) -> State {
    State {
        now: Some(prepared(now)),
        next: next.map(prepared),
        order: Some(order(now)),
        user: User::default(),
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
    let feed = Feed::default();
    let long = Duration::from_secs(60);
    assert!(feed.wait(long, |_| false), "there is none");
    let id = feed.connected();
    feed.replied(id, Reply::Ready("a".into()));
    feed.replied(id, Reply::Serving("plan".into()));
    assert!(feed.wait(long, |one| one.answered == "a"));
    assert_eq!(
        feed.services("plan"),
        Services {
            current: 1,
            behind: 0
        }
    );
    assert_eq!(feed.services("other").behind, 1);
    let waiting = feed.clone();
    let waits = std::thread::spawn(move || waiting.wait(long, |one| one.answered == "b"));
    feed.gone(id);
    assert!(waits.join().unwrap());
}

#[test]
fn a_service_that_says_nothing_is_waited_for_once() {
    let feed = Feed::default();
    let id = feed.connected();
    assert!(!feed.wait(Duration::from_millis(10), |one| one.answered == "a"));
    assert!(feed.wait(Duration::from_secs(60), |one| one.answered == "a"));
    feed.replied(id, Reply::Ready("b".into()));
    assert!(!feed.wait(Duration::from_millis(10), |one| one.answered == "a"));
}
