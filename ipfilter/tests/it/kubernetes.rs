//! The manifests for Kubernetes: built by a real kubectl and a real Helm, and checked by the schemas that are published for its API.

use std::{
    collections::BTreeMap,
    env, fs,
    panic::catch_unwind,
    path::{Path, PathBuf},
    process::Command,
    slice,
};

use serde_json::{Deserializer, Value};
use testkit::program::{HELM, KUBECTL, KUBERNETES_SCHEMAS};

fn manifests(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("dist/kubernetes")
        .join(name)
}

fn kubectl(arguments: &[&str]) -> String {
    let mut kubectl = KUBECTL.command().expect("kubectl");
    // It asks no cluster, whatever this machine knows of one.
    kubectl.env("KUBECONFIG", "/dev/null").args(arguments);
    let output = kubectl.output().expect("it starts");
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// The objects of a kustomization.
fn built(folder: &Path, tag: &str) -> Vec<Value> {
    as_json(&kubectl(&["kustomize", &folder.display().to_string()]), tag)
}

/// Objects in YAML, as kubectl reads them.
fn as_json(yaml: &str, tag: &str) -> Vec<Value> {
    let file = env::temp_dir().join(format!(
        "ipfilter-kustomized-{tag}-{}.yaml",
        std::process::id()
    ));
    fs::write(&file, yaml).expect("a file");
    let path = file.display().to_string();
    // Reads every object, which is what it is for here, and writes JSON.
    let json = kubectl(&[
        "label",
        "--local",
        "--filename",
        &path,
        "--output",
        "json",
        "tried=yes",
    ]);
    fs::remove_file(file).expect("a file");
    let objects = Deserializer::from_str(&json).into_iter();
    objects.collect::<Result<_, _>>().expect("JSON")
}

/// The kustomization of the fleet with the component for metrics.
fn all_of_it(tag: &str) -> Vec<Value> {
    let folder = env::temp_dir().join(format!(
        "ipfilter-kustomization-{tag}-{}",
        std::process::id()
    ));
    // Kustomize takes relative paths only.
    let copied = folder.join("kubernetes");
    fs::create_dir_all(folder.join("all")).expect("a folder");
    let copy = Command::new("cp")
        .arg("-r")
        .arg(manifests(""))
        .arg(&copied)
        .status();
    assert!(copy.expect("cp").success());
    let text = "resources: [../kubernetes/fleet]\ncomponents: [../kubernetes/podmonitor]\n";
    fs::write(folder.join("all/kustomization.yaml"), text).expect("a file");
    let built = built(&folder.join("all"), tag);
    fs::remove_dir_all(&folder).expect("a folder");
    built
}

/// The published schemas. They say little that JSON Schema can: what is understood here, and no more.
struct Schemas {
    folder: PathBuf,
    definitions: Value,
}

impl Schemas {
    fn open(folder: &Path) -> Self {
        let mut schemas = Self {
            folder: folder.to_owned(),
            definitions: Value::Null,
        };
        schemas.definitions = schemas.read("_definitions.json")["$defs"].take();
        schemas
    }

    fn read(&self, name: &str) -> Value {
        let text = fs::read_to_string(self.folder.join(name)).expect("a schema");
        serde_json::from_str(&text).expect("JSON")
    }

    /// Panics unless `value`, at `path`, is as `schema` says.
    fn check(&self, value: &Value, schema: &Value, path: &str) {
        for (keyword, is) in schema.as_object().expect("a schema") {
            match keyword.as_str() {
                "$ref" => {
                    let name = is.as_str().and_then(|url| url.rsplit('/').next());
                    let definition = &self.definitions[name.expect("a reference")];
                    self.check(value, definition, path);
                }
                "type" => {
                    let types = is.as_array().map_or(slice::from_ref(is), Vec::as_slice);
                    let is_one = types
                        .iter()
                        .any(|one| is_of(value, one.as_str().expect("a type")));
                    assert!(is_one, "{path} is not of {is}: {value}");
                }
                "enum" => {
                    let values = is.as_array().expect("values");
                    assert!(
                        values.contains(value) || value.is_null(),
                        "{path} is none of {is}: {value}"
                    );
                }
                "required" => {
                    for name in is.as_array().expect("names") {
                        let name = name.as_str().expect("a name");
                        assert!(value.get(name).is_some(), "{path} has no `{name}`");
                    }
                }
                "items" => {
                    for (index, item) in value.as_array().into_iter().flatten().enumerate() {
                        self.check(item, is, &format!("{path}[{index}]"));
                    }
                }
                "properties" | "additionalProperties" => {
                    self.check_member(value, schema, keyword, path);
                }
                "oneOf" => {
                    let one = |schema| catch_unwind(|| self.check(value, schema, path)).is_ok();
                    let fitting = is
                        .as_array()
                        .expect("schemas")
                        .iter()
                        .filter(|schema| one(schema));
                    assert_eq!(fitting.count(), 1, "{path}: {value}");
                }
                "description" | "format" | "default" | "$schema" | "$id" => {}
                other => assert!(
                    other.starts_with("x-kubernetes-"),
                    "{path}: {other} is not understood"
                ),
            }
        }
    }

    fn check_member(&self, value: &Value, schema: &Value, keyword: &str, path: &str) {
        let known = &schema["properties"];
        for (name, member) in value.as_object().into_iter().flatten() {
            let path = format!("{path}.{name}");
            match (keyword, known.get(name)) {
                ("properties", Some(schema)) => self.check(member, schema, &path),
                ("additionalProperties", None) => {
                    let more = &schema[keyword];
                    assert!(*more != false, "there is no {path}");
                    if more.is_object() {
                        self.check(member, more, &path);
                    }
                }
                _ => {}
            }
        }
    }
}

fn is_of(value: &Value, kind: &str) -> bool {
    match kind {
        "string" => value.is_string(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        "object" => value.is_object(),
        "array" => value.is_array(),
        "null" => value.is_null(),
        other => panic!("{other} is no type"),
    }
}

/// Checks objects of Kubernetes' own by their schemas, which know no other field. Returns them by kind.
fn checked(objects: Vec<Value>) -> BTreeMap<String, Value> {
    let folder = KUBERNETES_SCHEMAS.path().expect("schemas");
    let mut by_kind = BTreeMap::new();
    for object in objects {
        let kind = object["kind"].as_str().expect("a kind").to_owned();
        let version = object["apiVersion"].as_str().expect("a version");
        // The Prometheus operator's kinds are in no schema of Kubernetes.
        if !version.starts_with("monitoring.coreos.com/") {
            let version = version.replace('/', "-");
            let name = format!("{}-{version}.json", kind.to_lowercase());
            let schemas = Schemas::open(&folder);
            let schema = schemas.read(&name);
            schemas.check(&object, &schema, &kind);
            // It would refuse what is not there.
            let mut wrong = object.clone();
            wrong["metadata"]["nmae"] = Value::Null;
            let refused = catch_unwind(|| schemas.check(&wrong, &schema, &kind));
            assert!(refused.is_err(), "{kind}");
        }
        assert!(by_kind.insert(kind, object).is_none(), "two of a kind");
    }
    by_kind
}

fn container<'o>(objects: &'o BTreeMap<String, Value>, name: &str) -> &'o Value {
    let pod = &objects["DaemonSet"]["spec"]["template"]["spec"];
    let containers = pod["containers"].as_array().expect("containers");
    let found = containers
        .iter()
        .find(|container| container["name"] == name);
    found.unwrap_or_else(|| panic!("no container `{name}`"))
}

/// The configuration in the ConfigMap is one that `ipfilter check` takes.
fn assert_configuration(objects: &BTreeMap<String, Value>, tag: &str) {
    let folder = env::temp_dir().join(format!("ipfilter-configmap-{tag}-{}", std::process::id()));
    fs::create_dir_all(&folder).expect("a folder");
    for (name, text) in objects["ConfigMap"]["data"].as_object().expect("files") {
        fs::write(folder.join(name), text.as_str().expect("text")).expect("a file");
    }
    let mut check = Command::new(env!("CARGO_BIN_EXE_ipfilter"));
    let check = check
        .arg("check")
        .arg("--config")
        .arg(folder.join("ipfilter.json"));
    let output = check.output().expect("it starts");
    assert!(output.status.success(), "{output:?}");
    fs::remove_dir_all(folder).expect("a folder");
}

#[test]
fn the_base_is_what_kubernetes_takes_with_the_least_privileges() {
    let objects = checked(built(&manifests("base"), "base"));
    let kinds: Vec<_> = objects.keys().map(String::as_str).collect();
    assert_eq!(kinds, ["ConfigMap", "DaemonSet", "Namespace"]);
    assert_configuration(&objects, "base");
    let pod = &objects["DaemonSet"]["spec"]["template"]["spec"];
    assert_eq!(pod["hostNetwork"], true);
    assert_eq!(pod["automountServiceAccountToken"], false);
    let filter = container(&objects, "ipfilter");
    let security = &filter["securityContext"];
    assert_eq!(security["privileged"], false);
    assert_eq!(security["readOnlyRootFilesystem"], true);
    assert_eq!(security["capabilities"]["drop"], serde_json::json!(["ALL"]));
    assert_eq!(
        security["capabilities"]["add"],
        serde_json::json!(["NET_ADMIN", "SYS_ADMIN"]),
        "those of the unit"
    );
    for probe in ["startupProbe", "readinessProbe"] {
        assert_eq!(filter[probe]["httpGet"]["path"], "/healthz");
        assert_eq!(filter[probe]["httpGet"]["host"], "127.0.0.1");
    }
    let mounts = filter["volumeMounts"].as_array().expect("mounts");
    let paths: Vec<_> = mounts.iter().map(|mount| &mount["mountPath"]).collect();
    for path in [
        "/sys/fs/bpf",
        "/var/lib/ipfilter",
        "/run/ipfilter",
        "/etc/ipfilter",
    ] {
        assert!(paths.iter().any(|mounted| *mounted == path), "{path}");
    }
    // Its options are ones that there are.
    let help = Command::new(env!("CARGO_BIN_EXE_ipfilter"))
        .args(["run", "--help"])
        .output();
    let help = String::from_utf8(help.expect("it starts").stdout).expect("UTF-8");
    for argument in filter["args"].as_array().expect("arguments").iter().skip(1) {
        let argument = argument.as_str().expect("text");
        let option = argument.split('=').next().unwrap_or(argument);
        assert!(help.contains(option), "{option}");
    }
}

#[test]
fn the_fleet_has_an_agent_without_privileges_and_metrics_on_the_nodes_address() {
    let objects = checked(all_of_it("all"));
    assert_configuration(&objects, "fleet");
    let agent = container(&objects, "agent");
    let security = &agent["securityContext"];
    assert_eq!(security["runAsNonRoot"], true);
    assert_eq!(security["allowPrivilegeEscalation"], false);
    assert_eq!(
        security["capabilities"],
        serde_json::json!({"drop": ["ALL"]})
    );
    let config = objects["ConfigMap"]["data"]["ipfilter.json"]
        .as_str()
        .expect("text");
    let config: Value = serde_json::from_str(config).expect("JSON");
    assert_eq!(
        config["fleet"]["user"], security["runAsUser"],
        "who may offer bundles"
    );
    let arguments = agent["args"].as_array().expect("arguments");
    let follow = format!(
        "--follow={}",
        config["fleet"]["follow"].as_str().expect("a group")
    );
    assert!(
        arguments
            .iter()
            .any(|argument| *argument == follow.as_str()),
        "{follow}"
    );
    let filter = container(&objects, "ipfilter");
    let arguments = filter["args"].as_array().expect("arguments");
    assert!(
        arguments
            .iter()
            .any(|argument| argument == "--metrics=$(NODE_ADDRESS):9477")
    );
    assert_eq!(filter["readinessProbe"]["httpGet"].get("host"), None);
    let port = &objects["PodMonitor"]["spec"]["podMetricsEndpoints"][0]["port"];
    assert_eq!(&filter["ports"][0]["name"], port);
}

/// What Helm makes of the chart.
fn rendered(values: &Value, tag: &str) -> Vec<Value> {
    const RENDER: &str = "import json, sys\n\
        from helm_python.chart import Chart, lint\n\
        values = json.loads(sys.argv[2])\n\
        problems = [m for m in lint(sys.argv[1], values, strict=True)['messages'] if m['severity'] > 1]\n\
        assert not problems, problems\n\
        chart = Chart.load(sys.argv[1]).render(values, name='ipfilter', namespace='ipfilter')\n\
        print('\\n---\\n'.join(text for text in chart.values() if text.strip()))\n";
    let module = HELM.path().expect("Helm");
    let mut python = Command::new(testkit::tool("python3", "python3").expect("Python"));
    python.env("PYTHONPATH", module.parent().expect("a folder"));
    let chart = manifests("helm");
    let output = python
        .args(["-c", RENDER])
        .arg(chart)
        .arg(values.to_string());
    let output = output.output().expect("it starts");
    assert!(output.status.success(), "{output:?}");
    as_json(&String::from_utf8(output.stdout).expect("UTF-8"), tag)
}

/// The pods of a DaemonSet, with their containers and volumes by name.
fn pods(objects: &BTreeMap<String, Value>) -> Value {
    let mut spec = objects["DaemonSet"]["spec"].clone();
    for list in ["containers", "volumes"] {
        let list = spec["template"]["spec"][list].as_array_mut();
        let name = |one: &Value| one["name"].as_str().map(str::to_owned);
        list.expect("a list").sort_by_key(name);
    }
    spec
}

#[test]
fn the_chart_makes_the_same_pods_as_the_kustomizations() {
    let base = checked(built(&manifests("base"), "same"));
    let chart = checked(rendered(&serde_json::json!({}), "chart"));
    let pulled = |mut pods: Value| {
        let containers = pods["template"]["spec"]["containers"].as_array_mut();
        for container in containers.expect("containers") {
            container["imagePullPolicy"].take();
        }
        pods
    };
    assert_eq!(pulled(pods(&chart)), pulled(pods(&base)));
    assert_configuration(&chart, "chart");

    let kustomized = checked(all_of_it("chart"));
    let config = kustomized["ConfigMap"]["data"]["ipfilter.json"].as_str();
    let config: Value = serde_json::from_str(config.expect("text")).expect("JSON");
    let fleet = &config["fleet"];
    let values = serde_json::json!({
        "podMonitor": {"enabled": true},
        "fleet": {
            "follow": fleet["follow"],
            "trustedKeys": fleet["trusted_keys"],
            "interfaces": fleet["interfaces"],
        },
    });
    let chart = checked(rendered(&values, "chart-fleet"));
    assert_eq!(pulled(pods(&chart)), pulled(pods(&kustomized)));
    let written = chart["ConfigMap"]["data"]["ipfilter.json"].as_str();
    let written: Value = serde_json::from_str(written.expect("text")).expect("JSON");
    assert_eq!(written, config);
    assert_eq!(
        chart["PodMonitor"]["spec"],
        kustomized["PodMonitor"]["spec"]
    );
}
