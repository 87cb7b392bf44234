use std::io::Cursor;

use proptest::{collection, prelude::*};

use super::{
    frame::{self, LONGEST_HEADER, Lengths},
    message::{Answer, GroupOverrides, Outcome, Request},
    *,
};

fn bundle() -> Bundle {
    Bundle::new(
        "config.json",
        [
            ("policies/petstore.json".to_owned(), b"{}".to_vec()),
            ("config.json".to_owned(), b"{\"apis\": []}".to_vec()),
        ],
    )
    .unwrap()
}

fn files() -> impl Strategy<Value = Vec<(String, Vec<u8>)>> {
    let name = "[a-zä .-]{1,8}(/[a-z0-9]{1,8}){0,2}".prop_filter("a name", |name| {
        !name.split('/').any(|part| matches!(part, "." | ".."))
    });
    collection::btree_map(name, collection::vec(any::<u8>(), 0..40), 1..8)
        .prop_map(|files| files.into_iter().collect())
}

proptest! {
    #[test]
    fn a_bundle_has_one_encoding_whatever_the_order_of_its_files(files in files(), turn in 0usize..8) {
        let config = files[turn % files.len()].0.clone();
        let mut turned = files.clone();
        turned.rotate_left(turn % files.len());
        let bundle = Bundle::new(config.clone(), files).unwrap();
        let other = Bundle::new(config, turned).unwrap();
        prop_assert_eq!(bundle.encode(), other.encode());
        prop_assert_eq!(Bundle::decode(&bundle.encode()).unwrap(), bundle);
    }

    #[test]
    fn bytes_that_are_read_are_those_that_would_be_written(
        files in files(), at in any::<prop::sample::Index>(), bit in 0u8..8,
    ) {
        let bundle = Bundle::new(files[0].0.clone(), files).unwrap();
        let mut bytes = bundle.encode();
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        prop_assert_ne!(Digest::of(&bytes), bundle.digest());
        if let Ok(other) = Bundle::decode(&bytes) {
            prop_assert_ne!(&other, &bundle);
            prop_assert_eq!(other.encode(), bytes);
        }
    }

    #[test]
    fn random_bytes_are_refused_and_do_no_harm(bytes in collection::vec(any::<u8>(), 0..200)) {
        let encoded = bundle().encode();
        prop_assert!(Bundle::decode(&bytes).is_err());
        let behind = [&encoded[..16 + 4], &bytes].concat();
        if let Ok(read) = Bundle::decode(&behind) {
            prop_assert_eq!(read.encode(), behind);
        }
        let _: std::io::Result<(Request, Vec<u8>)> = frame::read(&mut Cursor::new(bytes), LARGEST);
    }
}

#[test]
fn a_bundle_cut_short_or_prolonged_is_refused() {
    let bytes = bundle().encode();
    for end in 0..bytes.len() {
        assert!(Bundle::decode(&bytes[..end]).is_err(), "{end}");
    }
    assert_eq!(
        Bundle::decode(&[&bytes[..], &[0]].concat()),
        Err(Malformed::Long)
    );
}

#[test]
fn names_that_leave_the_folder_are_refused() {
    for name in [
        "",
        ".",
        "..",
        "../a",
        "a/../b",
        "/etc/passwd",
        "a//b",
        "a/",
        "a\0",
        "a\nb",
        "a\\b",
        "\u{202e}a",
    ] {
        let files = [(name.to_owned(), Vec::new()), ("c".to_owned(), Vec::new())];
        assert!(
            matches!(Bundle::new("c", files), Err(Malformed::Name(_))),
            "{name}"
        );
    }
    let long = "a".repeat(LONGEST_NAME + 1);
    assert!(Bundle::new(long.clone(), [(long, Vec::new())]).is_err());
}

#[test]
fn what_is_too_much_for_a_bundle_is_refused() {
    let many = (0..=MOST_FILES).map(|number| (number.to_string(), Vec::new()));
    assert_eq!(Bundle::new("0", many), Err(Malformed::Many(MOST_FILES + 1)));
    let large = [("c".to_owned(), vec![0; LARGEST])];
    assert_eq!(Bundle::new("c", large), Err(Malformed::Large));
    assert_eq!(Bundle::new("c", []), Err(Malformed::Config));
}

#[test]
fn a_bundle_of_a_later_format_says_that_it_is_one() {
    let mut bytes = bundle().encode();
    bytes[19] = 2;
    let said = Bundle::decode(&bytes).unwrap_err().to_string();
    assert!(
        said.contains("format 2") && said.contains("update ipfilter"),
        "{said}"
    );
}

#[test]
fn a_million_blocks_fit() {
    let policy = "\"203.0.113.255/32\",\n".repeat(1_000_000).into_bytes();
    let files = [
        ("config.json".to_owned(), Vec::new()),
        ("p.json".to_owned(), policy),
    ];
    let bundle = Bundle::new("config.json", files).unwrap();
    assert_eq!(
        Bundle::decode(&bundle.encode()).unwrap().digest(),
        bundle.digest()
    );
}

fn release() -> Release {
    Release {
        group: "edge".parse().unwrap(),
        kind: Kind::Bundle,
        generation: 7,
        digest: bundle().digest(),
    }
}

#[test]
fn only_what_a_trusted_key_signed_is_trusted() {
    let [own, other, stranger] = [(); 3].map(|()| KeyPair::generate().unwrap());
    let trusted = [other.public(), own.public()];
    let signed = release().sign([&stranger, &own]);
    assert_eq!(signed.verify(&trusted), Ok(()));
    assert_eq!(signed.verify(&[]), Ok(()));
    assert_eq!(
        release().sign([&stranger]).verify(&trusted),
        Err(Refused::Stranger)
    );
    assert_eq!(release().sign([]).verify(&trusted), Err(Refused::Unsigned));
    assert_eq!(release().sign([]).verify(&[]), Ok(()));
}

#[test]
fn a_signature_is_over_every_part_of_a_release() {
    let key = KeyPair::generate().unwrap();
    let signed = release().sign([&key]);
    let changes: [fn(&mut Release); 4] = [
        |release| release.group = "edge2".parse().unwrap(),
        |release| release.kind = Kind::Overrides,
        |release| release.generation += 1,
        |release| release.digest = Digest::of(b""),
    ];
    for change in changes {
        let mut changed = signed.clone();
        change(&mut changed.release);
        assert_eq!(changed.verify(&[key.public()]), Err(Refused::Stranger));
    }
    let text = signed.signatures[0].to_string();
    for at in 0..text.len() {
        let digit = if text.as_bytes()[at] == b'0' {
            "1"
        } else {
            "0"
        };
        let mut damaged = text.clone();
        damaged.replace_range(at..=at, digit);
        let damaged = SignedRelease {
            release: release(),
            signatures: vec![damaged.parse().unwrap()],
        };
        assert_eq!(
            damaged.verify(&[key.public()]),
            Err(Refused::Stranger),
            "{at}"
        );
    }
}

#[test]
fn keys_are_read_as_they_are_written() {
    let key = KeyPair::generate().unwrap();
    assert_eq!(key.public().to_string().parse(), Ok(key.public()));
    let secret = key.secret_text();
    let read = KeyPair::from_secret_text(&format!("{secret}\n")).unwrap();
    assert_eq!(read.public(), key.public());
    assert_eq!(secret.parse::<PublicKey>(), Err(BadKey::Secret));
    let public = key.public().to_string();
    assert_eq!(
        KeyPair::from_secret_text(&public).unwrap_err(),
        BadKey::Public
    );
    assert!(!format!("{key:?}").contains(&secret[20..]));
    for (text, why) in [
        ("", BadKey::Text),
        ("ed25519:", BadKey::Text),
        (&public.to_uppercase(), BadKey::Text),
        (&public[..public.len() - 1], BadKey::Text),
        // The neutral element: everything verifies under such a key.
        (&format!("ed25519:01{}", "0".repeat(62)), BadKey::Point),
    ] {
        assert_eq!(text.parse::<PublicKey>(), Err(why), "{text}");
    }
}

#[test]
fn groups_have_plain_names() {
    for name in ["", ".", "..", "a/b", "a b", "ä", &"x".repeat(65)] {
        assert!(name.parse::<Group>().is_err(), "{name}");
    }
    assert!("edge-1_b.example".parse::<Group>().is_ok());
}

#[test]
fn messages_arrive_as_they_were_sent() {
    let key = KeyPair::generate().unwrap();
    let request = Request::Offer(release().sign([&key]));
    let body = bundle().encode();
    let mut bytes = Vec::new();
    frame::write(&mut bytes, &request, &body).unwrap();
    let read: (Request, Vec<u8>) = frame::read(&mut Cursor::new(&bytes), LARGEST).unwrap();
    assert_eq!(read, (request, body));
    for end in 0..bytes.len() {
        let cut: std::io::Result<(Request, _)> = frame::read(&mut &bytes[..end], LARGEST);
        assert!(cut.is_err(), "{end}");
    }
    let outcome = Answer::Outcome(Outcome::Refused("config.json:1:2: no".into()));
    let mut bytes = Vec::new();
    frame::write(&mut bytes, &outcome, b"").unwrap();
    let read: (Answer, _) = frame::read(&mut Cursor::new(bytes), 0).unwrap();
    assert_eq!(read.0, outcome);
}

#[test]
fn what_is_announced_too_long_is_refused_before_it_is_read() {
    let prefix = |header: u32, body: u32| {
        let bytes = [header.to_be_bytes(), body.to_be_bytes()].concat();
        <[u8; 8]>::try_from(bytes).unwrap()
    };
    let longest = u32::try_from(LONGEST_HEADER).unwrap();
    assert!(Lengths::read(prefix(longest, 5), 5).is_ok());
    let said = Lengths::read(prefix(1, u32::MAX), LARGEST).unwrap_err();
    assert!(said.to_string().contains("4294967295 bytes"), "{said}");
    assert!(Lengths::read(prefix(longest + 1, 0), 5).is_err());
    assert!(Lengths::read(prefix(1, 6), 5).is_err());
}

#[test]
fn group_overrides_are_read_as_they_are_written() {
    let text = br#"{"overrides":[{"effect":"block","source":"203.0.113.0/24","api":null,"until":null,"reason":"scans"}]}"#;
    let read = GroupOverrides::decode(text).unwrap();
    assert_eq!(read.encode().unwrap(), text);
    assert!(GroupOverrides::decode(b"{\"overrides\":[],\"more\":1}").is_err());
    assert!(GroupOverrides::decode(b"[]").is_err());
}
