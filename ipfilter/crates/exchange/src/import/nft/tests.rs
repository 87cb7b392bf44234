//! nftables files as people have them.

use super::{
    super::{Choice, Format, detect},
    read,
};

const RULESET: &str = r#"
table inet filter { # handle 1
    set office {
        type ipv4_addr
        flags interval
        elements = { 192.0.2.0/24 counter packets 1 bytes 2,
                     198.51.100.1-198.51.100.4 timeout 1h expires 3m }
    }
    set bad { type ipv4_addr; elements = { 192.0.2.66 } }
    chain api {
        type filter hook input priority filter; policy drop;
        ip saddr @bad counter packets 0 bytes 0 drop
        tcp dport { 80, 443 } ip saddr @office accept comment "let in"
    }
    chain other {
        ct state established accept
    }
}
"#;

#[test]
fn sets_are_taken_together_or_chosen() {
    let sets = RULESET.replace("saddr", "daddr");
    assert_eq!(
        read(&sets, &Choice::default()).unwrap().sources.v4.count(),
        260
    );
    let choice = Choice {
        sets: vec!["bad".into()],
        ..Choice::default()
    };
    assert_eq!(read(RULESET, &choice).unwrap().sources.v4.count(), 1);
    let choice = Choice {
        sets: vec!["none".into()],
        ..Choice::default()
    };
    assert!(read(RULESET, &choice).is_err());
}

#[test]
fn a_chain_is_read_in_its_order() {
    let problems = read(RULESET, &Choice::default()).unwrap_err();
    assert!(problems[0].message.contains("other ports"), "{problems:#?}");
    let text = RULESET.replace("tcp dport { 80, 443 } ", "");
    let imported = read(&text, &Choice::default()).unwrap();
    assert_eq!(imported.sources.v4.count(), 259);
    assert!(imported.sources.v6.is_empty());
    let open = text.replace(" policy drop;", "");
    assert!(
        read(&open, &Choice::default()).unwrap_err()[0]
            .message
            .contains("does not decide")
    );
}

#[test]
fn elements_may_come_alone() {
    for text in [
        "{ 192.0.2.1, 192.0.2.2 }",
        "elements = { 192.0.2.1,\n 192.0.2.2 }",
        "define x = { 192.0.2.1, 192.0.2.2 }",
        "add element inet t s { 192.0.2.1, 192.0.2.2 }",
    ] {
        let imported = read(text, &Choice::default()).unwrap();
        assert_eq!(imported.sources.v4.count(), 2, "{text}");
        assert_eq!(detect(text), Format::Nft, "{text}");
    }
    assert!(read("define x = { host }", &Choice::default()).is_err());
    assert!(
        read(
            "set x { elements = { 192.0.2.1 . 80 } }",
            &Choice::default()
        )
        .is_err()
    );
}
