use std::{fs, path::Path};

use clap::{CommandFactory as _, Parser};
use ipfilter_document::source::Source;

use super::{
    ApiConfig, Config, ConfigSource, Folder, Reading, Settings, Stage, read,
    read::{self as reading},
};
use ipfilter_plan::{Deny, Lookup, Protocols, REJECT_RATE};
use ipfilter_policy::Authorizer;

use crate::{fleet::Variables, mode::Mode};

const PATH: &str = "conf/ipfilter.json";

fn parsed(text: &str) -> Reading {
    let origin = reading::Origin {
        path: Path::new(PATH),
        folder: Folder::Disk,
        variables: Variables::None,
        is_published: false,
    };
    reading::parse(origin, Source::new(PATH, text))
}

fn config(text: &str) -> Config {
    let read = parsed(text);
    assert!(read.is_valid(), "{text}: {:?}", read.problems);
    read.config().clone()
}

/// Every problem: its place, path, message and hint.
fn refused(text: &str) -> Vec<String> {
    let read = parsed(text);
    assert!(!read.is_valid(), "{text}");
    let problems = read.problems.iter();
    problems
        .map(|it| {
            let hint = it
                .hint
                .as_ref()
                .map_or(String::new(), |hint| format!(" ({hint})"));
            format!("{}:{} {} {}{hint}", it.line, it.column, it.path, it.message)
        })
        .collect()
}

/// A configuration of one API with `fields` in place of its ports.
fn api(fields: &str) -> String {
    format!(r#"{{"interfaces":["eth0"],"apis":[{{"name":"a","policy":"a.json",{fields}}}]}}"#)
}

const FULL: &str = r#"{"interfaces": ["eth0", "ens?"],
    "apis": [
      {"name": "petstore", "ports": [443, "8000-8010"], "protocols": ["tcp", "udp"],
       "policy": "petstore.json", "deny": "respond", "respond_type": "text/html", "monitor": true,
       "allow_partial": true, "vpc_cidr": ["10.0.0.0/8"], "authorizer": "iam",
       "api_arn": "arn:aws:execute-api:us-east-1:123456789012:abcdef1234"},
      {"name": "billing", "ports": ["8443"], "policy": "/etc/billing.json"}],
    "addresses": ["192.0.2.1", "2001:db8::1"], "mode": "tc", "lookup": "trie", "reject_rate": 5,
    "events": 7, "log_denied": true, "record": {"days": 30}, "cut": true, "metrics": "unix:metrics", "watch": true, "on_error": "fail",
    "detach_on_exit": true, "confirm": "1m",
    "authorize": {"listen": "127.0.0.1:9478", "trusted_proxies": ["127.0.0.1/32"],
      "stage": {"from": "path"}, "principal_header": "X-Principal",
      "endpoints": {"vpce-1": {"vpc": "vpc-1", "sources": ["10.0.1.0/24"]}},
      "context_headers": {"aws:PrincipalOrgID": "X-Org"}}}"#;

#[test]
fn a_full_file_is_taken_as_it_says() {
    let config = config(FULL);
    assert_eq!(config.interfaces, ["eth0", "ens?"]);
    assert_eq!(config.addresses.len(), 2);
    assert_eq!(
        (config.mode, config.reject_rate.per_second()),
        (Mode::Tc, 5)
    );
    assert_eq!((config.lookup, config.events), (Lookup::Trie, 7));
    assert!(
        config.log_denied && config.cut && config.service.watch && config.service.detach_on_exit
    );
    let metrics = config.service.metrics.as_ref().map(ToString::to_string);
    assert_eq!(metrics.as_deref(), Some("unix:conf/metrics"));
    assert_eq!(config.service.confirm.map(|time| time.as_secs()), Some(60));
    let record = config.record.map(|record| (record.days, record.max_bytes));
    assert_eq!(record, Some((30, 64 << 20)));
    let authorize = config.authorize.as_ref().unwrap();
    assert_eq!(authorize.stage, Stage::FromPath);
    assert_eq!(authorize.endpoints["vpce-1"].vpc.as_deref(), Some("vpc-1"));
    let [petstore, billing] = config.apis.as_slice() else {
        panic!("two APIs")
    };
    assert_eq!(petstore.port_set().unwrap().to_string(), "443,8000-8010");
    assert_eq!(petstore.protocols, Protocols::BOTH);
    assert_eq!(petstore.deny, Deny::Respond);
    assert_eq!(petstore.response.content_type(), "text/html");
    assert_eq!(petstore.policy, Path::new("conf/petstore.json"));
    assert!(petstore.monitor && petstore.options.allow_partial);
    assert_eq!(petstore.options.authorizer, Authorizer::Iam);
    assert_eq!(billing.policy, Path::new("/etc/billing.json"));
    assert_eq!(billing.protocols, Protocols::TCP);
    assert_eq!(billing.deny, Deny::Drop);
    assert!(
        config.accepts_partial(billing),
        "an authorization service decides the rest"
    );
}

/// The inputs of a deployment hold the configuration: what is kept must be what was read, and what an
/// earlier version kept, which lacks settings, must be readable.
#[test]
fn a_configuration_is_kept_whole() {
    let config = config(FULL);
    let kept = serde_json::to_string(&config).unwrap();
    assert_eq!(serde_json::from_str::<Config>(&kept).unwrap(), config);
    let older: Config = serde_json::from_str(r#"{"interfaces":["eth0"],"apis":[{}]}"#).unwrap();
    assert_eq!(older.reject_rate.per_second(), REJECT_RATE);
    assert_eq!(older.apis.len(), 1);
}

#[test]
fn every_problem_has_its_place_path_and_advice() {
    for (text, wanted) in [
        (
            api(r#""ports":[443],"dney":"drop""#),
            "1:76 $.apis[0].dney there is no field `dney` here (did you mean `deny`?)",
        ),
        (
            api(r#""ports":[0]"#),
            "1:71 $.apis[0].ports[0] port `0` is out of range: ports are 1 to 65535",
        ),
        (
            api(r#""ports":"443""#),
            "1:70 $.apis[0].ports expected a list, found a string",
        ),
        (
            api(r#""ports":[-1]"#),
            "1:71 $.apis[0].ports[0] expected a port from 1 to 65535, or a range such as \
             \"8000-8010\", found `-1`",
        ),
        (
            api(r#""ports":[]"#),
            "1:70 $.apis[0].ports the list is empty (write at least one port)",
        ),
        (
            api(r#""ports":[443],"deny":"explode""#),
            "1:83 $.apis[0].deny `explode` is not \"drop\", \"reject\" or \"respond\"",
        ),
        (
            api(r#""ports":[443],"protocols":["sctp"]"#),
            "1:89 $.apis[0].protocols[0] `sctp` is not a protocol: write `tcp` or `udp`",
        ),
        (
            api(r#""ports":[443],"deny":true"#),
            "1:83 $.apis[0].deny expected \"drop\", \"reject\" or \"respond\", found a Boolean",
        ),
        (
            api(r#""ports":[443],"ports":[1]"#),
            "1:76 $.apis[0].ports `ports` appears twice (keep one: which of them would count is not \
             defined)",
        ),
        (
            api(r#""deny":"drop""#),
            "1:32 $.apis[0] the field `ports` is missing",
        ),
        (
            api(r#""ports":[443],"respond_body":"x""#),
            "1:91 $.apis[0].respond_body only `respond` sends a body: let `deny` be `respond`, or \
             remove this",
        ),
        (
            "[]".to_owned(),
            "1:1 $ a configuration is an object, not a list",
        ),
        (
            r#"{"interfaces":[],"apis":[{"name":"a","ports":[1],"policy":"p"}]}"#.to_owned(),
            "1:15 $.interfaces the list is empty (name at least one interface)",
        ),
        (
            r#"{"interfaces":["a"],"apis":[]}"#.to_owned(),
            "1:28 $.apis expected a list of at least one API (write [{\"name\": …, \"ports\": […], \
             \"policy\": …}])",
        ),
        (
            r#"{"interfaces":["a"],}"#.to_owned(),
            "1:21 $ the document is not JSON: key must be a string (is there a comma too many before \
             the closing bracket?)",
        ),
    ] {
        assert_eq!(refused(&text), [wanted], "{text}");
    }
}

#[test]
fn all_problems_are_reported_at_once() {
    let text = "{\"interfaces\": [\"a\"],\n \"addresses\": [\"10.0.0.0/8\"],\n \
        \"reject_rate\": 1000000001, \"apis\": [\n \
        {\"name\": \"a\", \"ports\": [80, \"90-99\"], \"policy\": \"a.json\"},\n \
        {\"name\": \"a\", \"ports\": [95], \"protocols\": [\"udp\", \"tcp\"], \"policy\": \"b.json\"},\n \
        {\"name\": \"a b\", \"ports\": [\"9-8\"], \"policy\": \"\"}]}";
    assert_eq!(
        refused(text),
        [
            "2:16 $.addresses[0] `10.0.0.0/8` is not an address: write an IPv4 or IPv6 address, \
             without a prefix length",
            "3:17 $.reject_rate expected a whole number from 0 to 1000000000, found `1000000001`",
            "5:11 $.apis[1].name another API is called `a` already (name each API differently)",
            "5:25 $.apis[1].ports TCP port 95 belongs to the API `a` already (a port belongs to one \
             API only)",
            "6:11 $.apis[2].name this is not a name for an API (a name is 1 to 64 letters, digits, \
             hyphens, underscores and dots)",
            "6:28 $.apis[2].ports[0] port range `9-8` is reversed: write `8-9`",
            "6:46 $.apis[2].policy it is empty",
        ]
    );
}

#[test]
fn the_section_on_the_fleet_is_checked_whole() {
    let with = |section: &str| format!(r#"{{"fleet":{section}}}"#);
    let key = "ed25519:d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";
    let whole = format!(
        r#"{{"follow":"etcd://a:1,[::1]/web","trusted_keys":["{key}"],"interfaces":{{"public":["eth0"]}},
        "vars":{{"vip":["192.0.2.1"]}},"user":998}}"#
    );
    let read = parsed(&with(&whole));
    assert!(read.is_valid(), "{:?}", read.problems);
    let fleet = read.config().fleet.clone().unwrap();
    assert_eq!(fleet.follow.group().as_str(), "web");
    assert_eq!(fleet.trusted_keys[0].to_string(), key);
    let follow = r#""follow":"etcd://a/web""#;
    for (section, wanted) in [
        ("{}", "`fleet` cannot be empty"),
        (r#"{"user":"a"}"#, "the field `follow` is missing"),
        (
            r#"{"follow":"http://a/b"}"#,
            "write one such as `etcd://10.0.0.1,10.0.0.2/web`",
        ),
        (
            r#"{"follow":"etcd://a"}"#,
            "write one such as `etcd://10.0.0.1,10.0.0.2/web`",
        ),
        (
            r#"{"follow":"etcd://u@a/b"}"#,
            "a user does not belong into the address",
        ),
        (r#"{"follow":"etcd://a/b/c"}"#, "does not begin with a dot"),
        (
            &format!(r#"{{{follow},"trusted_keys":["ed25519-secret:00"]}}"#),
            "and make a new pair",
        ),
        (
            &format!(r#"{{{follow},"trusted_keys":["x"]}}"#),
            "as `ipfilter keygen` prints it",
        ),
        (
            &format!(r#"{{{follow},"interfaces":{{"a b":["eth0"]}}}}"#),
            "hyphens and underscores)",
        ),
        (
            &format!(r#"{{{follow},"vars":{{"a":[]}}}}"#),
            "the list is empty (write at least one value)",
        ),
        (
            &format!(r#"{{{follow},"var":{{}}}}"#),
            "did you mean `vars`?)",
        ),
    ] {
        let problems = refused(&with(section));
        assert!(
            problems.len() == 1 && problems[0].ends_with(wanted),
            "{section}: {problems:?}"
        );
    }
    let half = r#"{"fleet":{"follow":"etcd://a/web"},"interfaces":["eth0"]}"#;
    assert!(refused(half)[0].ends_with("the field `apis` is missing"));
    let variable = r#"{"interfaces":["$public"],"apis":[{"name":"a","ports":[1],"policy":"p"}]}"#;
    assert!(refused(variable)[0].contains("only the hosts of a fleet have variables"));
}

#[test]
fn the_section_on_authorization_is_checked_whole() {
    let with = |section: &str| {
        format!(
            r#"{{"interfaces":["a"],"apis":[{{"name":"a","ports":[1],"policy":"p"}}],"authorize":{section}}}"#
        )
    };
    for (section, wanted) in [
        ("{}", "`authorize` cannot be empty"),
        (r#"{"stage":"prod"}"#, "the field `listen` is missing"),
        (
            r#"{"listen":"9478","stage":"a","user":"a b"}"#,
            "`a b` is not a user's name",
        ),
        (r#"{"listen":"9478"}"#, "the field `stage` is missing"),
        (
            r#"{"listen":"9478","stage":{"from":"host"}}"#,
            "`host` is not where a stage is found (write `path`: the path's first segment is the stage)",
        ),
        (
            r#"{"listen":"9478","stage":"a/b"}"#,
            "`a/b` is not a stage's name",
        ),
        (
            r#"{"listen":"9478","stage":"a","trusted_proxies":["x"]}"#,
            "`x` is not a block of addresses: write a block such as `10.0.0.0/8` or `fc00::/7`",
        ),
        (
            r#"{"listen":"9478","stage":"a","endpoints":{"e":{"vpc":"vpc-1"}}}"#,
            "`e` is not a VPC endpoint's id (ids begin with `vpce-`)",
        ),
        (
            r#"{"listen":"9478","stage":"a","context_headers":{"AWS:sourceip":"X"}}"#,
            "no header may set `aws:SourceIp` (the service finds it out itself: remove it)",
        ),
        (
            r#"{"listen":"9478","stage":"a","principal_header":"a b"}"#,
            "`a b` is not the name of a header",
        ),
    ] {
        let problems = refused(&with(section));
        assert!(
            problems.len() == 1 && problems[0].ends_with(wanted),
            "{section}: {problems:?}"
        );
    }
}

/// Any value of a setting gives a plain message, never a panic.
#[test]
fn no_value_is_answered_with_a_type_of_the_program() {
    let values = [
        "1",
        "-1",
        "1.5",
        "1e99",
        "true",
        "null",
        "\"x\"",
        "\"\\ud800\"",
        "\"\\u0000\"",
        "[]",
        "{}",
        "[{}]",
        "[[1]]",
        "[null]",
        "{\"a\":{}}",
    ];
    let outer = Config::fields()
        .into_iter()
        .map(|field| (field.name, false));
    let inner = ApiConfig::fields()
        .into_iter()
        .map(|field| (field.name, true));
    for (name, is_inner) in outer.chain(inner) {
        for value in values {
            let text = if is_inner {
                format!("{{\"apis\":[{{\"{name}\":{value}}}]}}")
            } else {
                format!("{{\"{name}\":{value}}}")
            };
            let message = refused(&text).join("\n");
            for word in [
                "struct", "u32", "u64", "enum", "variant", "sequence", "Option",
            ] {
                assert!(!message.contains(word), "{text}: {message}");
            }
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
    let missing = read(&path).unwrap();
    fs::write(folder.join("body"), vec![b'x'; 1300]).unwrap();
    let long = read(&path).unwrap();
    fs::write(folder.join("body"), "{}").unwrap();
    let fine = read(&path).unwrap();
    fs::write(&path, vec![b' '; 5 << 20]).unwrap();
    let huge = read(&path).unwrap_err().to_string();
    fs::remove_dir_all(&folder).unwrap();
    for (read, part) in [(missing, "can't read `"), (long, "the body has 1300 bytes")] {
        let problem = &read.problems[0];
        assert_eq!(problem.path, "$.apis[0].respond_body");
        assert!(problem.message.starts_with(part), "{}", problem.message);
    }
    assert_eq!(fine.config().apis[0].response.body(), b"{}");
    assert!(huge.contains("larger than the limit"), "{huge}");
}

/// A command line with nothing but the settings.
#[derive(Debug, Parser)]
struct Line {
    #[command(flatten)]
    source: ConfigSource,
    #[command(flatten)]
    service: super::Service,
}

fn line(words: &str) -> Result<ConfigSource, clap::Error> {
    let line = Line::try_parse_from(["ipfilter"].into_iter().chain(words.split_whitespace()))?;
    Ok(line.source.with_service(&line.service))
}

#[test]
fn options_say_the_same_as_a_file() {
    Line::command().debug_assert();
    let source = line(
        "--interface eth0 --interface ens? --port 443,8000-8010 --port 9 --udp --policy p.json \
         --deny reject --reject-rate 5 --address 192.0.2.1,2001:db8::1 --mode tc --events 7 \
         --log-denied --lookup trie --authorizer iam --allow-partial --watch --metrics 9477",
    );
    let read = source.unwrap().read().unwrap();
    let file = config(
        r#"{"interfaces": ["eth0", "ens?"], "apis": [{"name": "api", "ports": [443, "8000-8010", 9],
            "protocols": ["tcp", "udp"], "policy": "/p.json", "deny": "reject", "authorizer": "iam",
            "allow_partial": true}], "reject_rate": 5, "addresses": ["192.0.2.1", "2001:db8::1"],
            "mode": "tc", "events": 7, "log_denied": true, "lookup": "trie", "watch": true,
            "metrics": "9477"}"#,
    );
    let mut same = Config { file: None, ..file };
    same.apis[0].policy = "p.json".into();
    assert_eq!(read, same);
}

#[test]
fn what_is_given_beside_a_file_comes_before_what_it_says() {
    let folder = std::env::temp_dir().join(format!("ipfilter-beside-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let path = folder.join("config.json");
    fs::write(&path, FULL).unwrap();
    let told = path.to_str().unwrap();
    let plain = line(&format!("--config {told}")).unwrap();
    let given = line(&format!(
        "--config {told} --lookup auto --authorizer none --metrics 1"
    ));
    let (plain, given) = (plain.read().unwrap(), given.unwrap().read().unwrap());
    for refused in [
        "--port 1",
        "--deny drop",
        "--interface a",
        "--mode tc",
        "--udp",
    ] {
        let error = line(&format!("--config {told} {refused}")).unwrap_err();
        assert!(error.to_string().contains("cannot be used with"), "{error}");
    }
    fs::remove_dir_all(&folder).unwrap();
    assert_eq!((plain.lookup, given.lookup), (Lookup::Trie, Lookup::Auto));
    let kinds = given.apis.iter().map(|api| api.options.authorizer);
    assert!(kinds.eq([Authorizer::None; 2]));
    let metrics = given.service.metrics.map(|at| at.to_string());
    assert_eq!(metrics.as_deref(), Some("127.0.0.1:1"));
    assert_eq!((plain.events, given.events), (7, 7));
    assert!(given.apis[0].options.allow_partial && given.service.watch);
}

#[test]
fn the_reference_describes_every_setting() {
    const REFERENCE: &str = include_str!("../../../docs/reference/config.md");
    let fields = [Config::fields(), ApiConfig::fields()].concat();
    for field in &fields {
        let row = format!("| `{}` |", field.name);
        assert!(REFERENCE.contains(&row), "not in config.md: {}", field.name);
    }
}
