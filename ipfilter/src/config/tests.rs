use std::fs;

use super::*;

const PATH: &str = "conf/ipfilter.json";

fn config(text: &str) -> Result<Config, String> {
    parse(Path::new(PATH), text.as_bytes())
        .and_then(|file| build(Path::new(PATH), file))
        .map_err(|error| error.to_string())
}

fn refused(text: &str) -> String {
    config(text).expect_err(text)
}

/// A configuration of one API with `fields` in place of its ports.
fn api(fields: &str) -> String {
    format!(r#"{{"interfaces":["eth0"],"apis":[{{"name":"a","policy":"a.json",{fields}}}]}}"#)
}

#[test]
fn a_full_file_is_taken_as_it_says() {
    let config = config(
        r#"{"interfaces": ["eth0", "ens?"],
            "apis": [
              {"name": "petstore", "ports": [443, "8000-8010"], "protocols": ["tcp", "udp"],
               "policy": "petstore.json", "deny": "respond", "respond_type": "text/html"},
              {"name": "billing", "ports": ["8443"], "policy": "/etc/billing.json"}],
            "addresses": ["192.0.2.1", "2001:db8::1"], "mode": "tc", "reject_rate": 5}"#,
    )
    .unwrap();
    assert_eq!(config.interfaces, ["eth0", "ens?"]);
    assert_eq!(config.addresses.len(), 2);
    assert_eq!((config.mode, config.reject_rate), (Mode::Tc, 5));
    let [petstore, billing] = config.apis.as_slice() else {
        panic!("two APIs")
    };
    assert_eq!(petstore.ports.to_string(), "443,8000-8010");
    assert_eq!(petstore.protocols, Protocols::BOTH);
    assert_eq!(petstore.deny, Deny::Respond);
    assert_eq!(petstore.response.content_type(), "text/html");
    assert_eq!(petstore.policy, Path::new("conf/petstore.json"));
    assert_eq!(billing.policy, Path::new("/etc/billing.json"));
    assert_eq!(billing.protocols, Protocols::TCP);
    assert_eq!(billing.deny, Deny::Drop);
}

#[test]
fn every_problem_is_told_with_its_place_and_field() {
    for (text, message) in [
        (
            api(r#""ports":[443],"colour":1"#),
            "1:83: `apis[0].colour`: no such field: `colour`, \
            expected one of `name`, `ports`, `protocols`, `policy`, `deny`, `respond_body`, `respond_type`",
        ),
        (
            api(r#""ports":[0]"#),
            "1:71: `apis[0].ports[0]`: port `0` is out of range: ports are 1 to 65535",
        ),
        (
            api(r#""ports":"443""#),
            "1:74: `apis[0].ports`: found \"443\", expected a list of ports and ranges \
            such as [443, \"8000-8010\"]",
        ),
        (
            api(r#""ports":[-1]"#),
            "1:72: `apis[0].ports[0]`: found `-1`, expected a port from 1 to 65535, or a \
            range such as \"8000-8010\"",
        ),
        (
            api(r#""ports":[]"#),
            "1:71: `apis[0].ports`: it is empty: write at least one port",
        ),
        (
            api(r#""ports":[443],"deny":"explode""#),
            "1:91: `apis[0].deny`: `explode` is not one of \
            `drop`, `reject`, `respond`",
        ),
        (
            api(r#""ports":[443],"protocols":["sctp"]"#),
            "1:94: `apis[0].protocols[0]`: `sctp` is not one \
            of `tcp`, `udp`",
        ),
        (
            api(r#""ports":[443],"deny":true"#),
            "1:86: `apis[0].deny`: found `true`, expected \"drop\", \
            \"reject\" or \"respond\"",
        ),
        (
            api(r#""ports":[443],"ports":[1]"#),
            "1:82: `apis[0]`: a field is there twice: keep one \
            `ports`",
        ),
        (
            api(r#""deny":"drop""#),
            "1:75: `apis[0]`: a field is missing: add `ports`",
        ),
        (
            api(r#""ports":[443],"respond_body":"x""#),
            " `apis[0].respond_body`: it is sent only by \
            `\"deny\": \"respond\"`: write that, or leave this out",
        ),
        (
            "[]".to_owned(),
            "1:0: found list, expected an object with the fields `interfaces` and `apis`",
        ),
        (
            r#"{"interfaces":"eth0"}"#.to_owned(),
            "1:20: `interfaces`: found \"eth0\", expected a list",
        ),
        (
            r#"{"interfaces":[],"apis":[]}"#.to_owned(),
            " `interfaces`: name at least one interface",
        ),
        (
            r#"{"interfaces":["a"],"apis":[]}"#.to_owned(),
            " `apis`: name at least one API",
        ),
        (
            "{\n \"reject_rate\": 5000000000}".to_owned(),
            "2:26: `reject_rate`: found `5000000000`, expected a \
            whole number from 0 to 4294967295",
        ),
        (
            "{\"interfaces\":[\"a\"],\n \"addresses\":[\"10.0.0.0/8\"]}".to_owned(),
            "2:26: \
            `addresses[0]`: `10.0.0.0/8` is not an address: write IPv4 or IPv6, without a prefix length",
        ),
        (
            r#"{"interfaces":["a"],}"#.to_owned(),
            "1:21: trailing comma",
        ),
    ] {
        assert_eq!(refused(&text), format!("{PATH}:{message}"), "{text}");
    }
}

#[test]
fn no_message_names_a_type_of_the_program() {
    let values = [
        "1", "-1", "1.5", "true", "null", "\"x\"", "[]", "{}", "[{}]", "[[1]]", "[null]",
    ];
    let fields = [
        "interfaces",
        "apis",
        "addresses",
        "mode",
        "reject_rate",
        "events",
        "log_denied",
    ];
    let inner = [
        "name",
        "ports",
        "protocols",
        "policy",
        "deny",
        "respond_body",
        "respond_type",
    ];
    let outer = fields
        .iter()
        .flat_map(|field| values.map(|value| format!("{{\"{field}\":{value}}}")));
    let inner = inner
        .iter()
        .flat_map(|field| values.map(|value| format!("{{\"apis\":[{{\"{field}\":{value}}}]}}")));
    for text in outer.chain(inner) {
        let message = refused(&text);
        for word in [
            "struct", "u32", "u64", "enum", "variant", "sequence", "map", "Option", "unit",
        ] {
            assert!(!message.contains(word), "{text}: {message}");
        }
    }
}

#[test]
fn a_body_that_is_too_long_or_missing_is_refused() {
    let folder = std::env::temp_dir().join(format!("ipfilter-config-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let path = folder.join("config.json");
    let asked = api(r#""ports":[443],"deny":"respond","respond_body":"body""#);
    fs::write(&path, asked).unwrap();
    let missing = read(&path).unwrap_err();
    fs::write(folder.join("body"), vec![b'x'; 1300]).unwrap();
    let long = read(&path).unwrap_err();
    fs::write(folder.join("body"), "{}").unwrap();
    let fine = read(&path);
    fs::remove_dir_all(&folder).unwrap();
    for (error, part) in [(missing, "can't read `"), (long, "the body has 1300 bytes")] {
        assert_eq!(error.field, "apis[0].respond_body");
        assert!(error.message.starts_with(part), "{error}");
    }
    assert_eq!(fine.unwrap().apis.first().unwrap().response.body(), b"{}");
    assert!(
        read(&path)
            .unwrap_err()
            .to_string()
            .contains("can't read the configuration")
    );
}
