//! `check --config`: a configuration, its policies, and how they go together.

use std::{
    fs,
    path::PathBuf,
    process::{self, Command},
};

use serde_json::{Value, json};

/// A folder with policies, which goes when it is dropped.
struct Folder(PathBuf);

/// A statement that allows everyone to call, with `extra` in it.
fn policy(extra: &str) -> String {
    format!(
        r#"{{"Version": "2012-10-17", "Statement": {{"Effect": "Allow", "Principal": "*",
            "Action": "execute-api:Invoke", "Resource": "execute-api:/*"{extra}}}}}"#
    )
}

impl Folder {
    fn new(tag: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("ipfilter-{tag}-{}", process::id()));
        fs::create_dir_all(&folder).expect("a folder");
        let this = Self(folder);
        this.write("whole.json", &policy(""));
        this.write(
            "part.json",
            &policy(r#", "Condition": {"StringLike": {"aws:UserAgent": "*Bot*"}}"#),
        );
        this.write(
            "caller.json",
            &policy(
                r#", "Condition": {"StringEquals": {"aws:PrincipalOrgID": "o-1", "aws:SourceVpce": "vpce-1"}}"#,
            ),
        );
        this.write("broken.json", r#"{"Statement": 7}"#);
        this
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.0.join(name), text).expect("a file");
    }

    /// Runs `ipfilter` in the folder: exit code, standard output, standard error.
    fn run(&self, arguments: &[&str]) -> (i32, String, String) {
        let output = Command::new(env!("CARGO_BIN_EXE_ipfilter"))
            .args(arguments)
            .current_dir(&self.0)
            .output()
            .expect("ipfilter runs");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let exit = output.status.code().expect("an exit code");
        (exit, text(&output.stdout), text(&output.stderr))
    }

    /// Checks a configuration of `apis` with more fields.
    fn check(&self, apis: &Value, more: &Value) -> (i32, String) {
        let mut config = json!({"interfaces": ["eth0"], "apis": apis});
        let fields = config.as_object_mut().expect("an object");
        fields.extend(more.as_object().expect("an object").clone());
        self.write("ipfilter.json", &config.to_string());
        let (exit, out, _) = self.run(&["check", "--config", "ipfilter.json"]);
        (exit, out)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // A test that fails has already said why.
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn api(name: &str, port: u16, policy: &str) -> Value {
    json!({"name": name, "ports": [port], "policy": policy})
}

#[test]
fn what_nobody_tells_the_authorization_service_is_named() {
    let folder = Folder::new("check-missing");
    let mut api = api("a", 1, "caller.json");
    api["authorizer"] = json!("iam");
    let mut authorize = json!({"listen": "127.0.0.1:9478", "stage": "prod"});
    let mut check = |missing: &str| {
        let (exit, said) = folder.check(&json!([api]), &json!({"authorize": authorize}));
        assert_eq!(exit, 0, "{said}");
        let wanted =
            format!("together decide all but: {missing}what no statement matches, which is");
        assert!(said.contains(&wanted), "{said}");
        authorize["endpoints"] = json!({"vpce-1": {"sources": ["10.0.0.0/8"]}});
        if !missing.contains("VPC") {
            authorize["context_headers"] = json!({"AWS:principalorgid": "X-Org"});
        }
    };
    let org = "`aws:PrincipalOrgID`, so no request has it (name its header in `context_headers`); ";
    let vpc = "VPC endpoints, so no request comes through one (list them in `endpoints`); ";
    check(&format!("{vpc}{org}"));
    check(org);
    check("");
}

#[test]
fn a_configuration_is_checked_with_its_policies() {
    let folder = Folder::new("check-config");
    let whole = api("a", 1, "whole.json");
    let mut accepted = api("b", 2, "part.json");
    accepted["allow_partial"] = json!(true);
    let none = json!({});
    let authorize = json!({"authorize": {"listen": "127.0.0.1:9478", "stage": "prod"}});
    for (apis, more, exit, parts) in [
        (
            json!([whole]),
            &none,
            0,
            &[
                "ipfilter.json: valid, 1 API, 1 interface\n",
                "whole.json (API `a`): exact, ",
            ][..],
        ),
        (
            json!([whole, accepted]),
            &none,
            0,
            &["part.json (API `b`): partial"],
        ),
        (
            json!([whole, api("b", 2, "part.json")]),
            &none,
            4,
            &["part.json (API `b`): refused unless `\"allow_partial\": true` is set for the API\n"],
        ),
        (
            json!([whole, api("b", 2, "part.json")]),
            &authorize,
            0,
            &["whole: interface and authorization service together decide every request\n"],
        ),
        (
            json!([api("b", 2, "part.json"), api("c", 3, "broken.json")]),
            &none,
            3,
            &[
                "error: broken.json:1:15: ",
                "broken.json (API `c`): invalid",
            ],
        ),
        (
            json!([whole, api("b", 2, "nowhere.json")]),
            &none,
            1,
            &[
                "error: ipfilter.json:1:",
                "can't read the policy `nowhere.json`: ",
                "$.apis[1].policy",
            ],
        ),
        (
            json!([whole, api("b", 1, "broken.json"), {"name": "a"}]),
            &json!({"colour": 1}),
            2,
            &[
                "TCP port 1 belongs to the API `a` already",
                "the field `policy` is missing",
                "there is no field `colour` here",
                "ipfilter.json: invalid, 5 errors\n",
                // Of APIs that are whole the policies are checked all the same.
                "whole.json (API `a`): exact, ",
            ],
        ),
    ] {
        let (got, out) = folder.check(&apis, more);
        assert_eq!(got, exit, "{apis}: {out}");
        for part in parts {
            assert!(out.contains(part), "{apis}: {part:?} is not in {out}");
        }
        assert!(!out.contains('\u{1b}'), "colour in a pipe: {out}");
    }
}

#[test]
fn what_is_wrong_ends_as_when_it_is_run() {
    let folder = Folder::new("check-run");
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: `deploy` needs root before it reads a configuration");
        return;
    }
    folder.write(
        "broken-config.json",
        r#"{"interfaces": ["nowhere0"], "apis": 7}"#,
    );
    let config = |policy: &str| {
        json!({"interfaces": ["nowhere0"], "apis": [api("a", 1, policy)]}).to_string()
    };
    folder.write("invalid.json", &config("broken.json"));
    folder.write("partial.json", &config("part.json"));
    folder.write("missing.json", &config("nowhere.json"));
    for (file, exit) in [
        ("broken-config.json", 2),
        ("no-such-config.json", 2),
        ("invalid.json", 3),
        ("partial.json", 4),
        ("missing.json", 1),
    ] {
        let instance = format!("check-{}", process::id());
        let (checked, ..) = folder.run(&["check", "--config", file]);
        let (deployed, _, err) = folder.run(&["--instance", &instance, "deploy", "--config", file]);
        assert_eq!((checked, deployed), (exit, exit), "{file}: {err}");
    }
}

#[test]
fn options_come_before_what_the_file_says_and_machines_get_it_all() {
    let folder = Folder::new("check-json");
    folder.check(
        &json!([api("a", 1, "whole.json"), api("b", 2, "part.json")]),
        &json!({}),
    );
    let (exit, out, err) = folder.run(&[
        "check",
        "--config",
        "ipfilter.json",
        "--allow-partial",
        "--format",
        "json",
    ]);
    assert_eq!(exit, 0, "{err}");
    let report: Value = serde_json::from_str(&out).expect("JSON");
    let files = report["files"].as_array().expect("files");
    let told: Vec<_> = files
        .iter()
        .map(|it| [&it["file"], &it["api"], &it["verdict"]])
        .collect();
    assert_eq!(
        told,
        [
            [&json!("ipfilter.json"), &Value::Null, &json!("valid")],
            [&json!("whole.json"), &json!("a"), &json!("exact")],
            [&json!("part.json"), &json!("b"), &json!("partial")],
        ]
    );
    assert_eq!(files[2]["problems"][0]["severity"], "maybe");
    let (exit, _, err) = folder.run(&["check", "--config", "ipfilter.json", "whole.json"]);
    assert!(exit == 2 && err.contains("cannot be used with"), "{err}");
}
