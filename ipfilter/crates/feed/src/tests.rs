use super::*;

fn policies() -> Policies {
    Policies {
        authorize: None,
        apis: vec![Api {
            name: "petstore".into(),
            hosts: vec!["api.example".into()],
            options: PolicyOptions::default(),
            file: "petstore.json".into(),
            policy: "{\"a\": \"\\u00e4\n\"}".into(),
        }],
    }
}

#[test]
fn policies_arrive_as_they_were_sent() {
    let sent = Prepared::new(&policies()).unwrap();
    assert_eq!(sent.line.iter().filter(|byte| **byte == b'\n').count(), 1);
    let Message::Prepare { digest, policies } = Message::read(&sent.line).unwrap() else {
        panic!("another message");
    };
    assert_eq!((digest, policies), (sent.digest, self::policies()));
}

#[test]
fn other_policies_have_another_name() {
    let mut other = policies();
    other.apis[0].policy.push(' ');
    let digest = |policies: &Policies| Prepared::new(policies).unwrap().digest;
    assert_eq!(digest(&policies()), digest(&policies()));
    assert_ne!(digest(&policies()), digest(&other));
}

#[test]
fn replies_are_read_as_they_are_written() {
    for reply in [
        Reply::Ready("a".into()),
        Reply::Unusable("b".into()),
        Reply::Serving("c".into()),
    ] {
        assert_eq!(format!("{reply}\n").parse(), Ok(reply));
    }
    let long = format!("ready {}", "a".repeat(200));
    for line in [
        "",
        "ready",
        "READY a",
        "reload x",
        "{}",
        &long,
        "counted {}",
        "counted 1",
    ] {
        assert_eq!(line.parse::<Reply>(), Err(()), "{line}");
    }
}
