//! The bill of materials, as CycloneDX 1.6 in JSON: every crate in the programs and in the BPF object, with version,
//! license and checksum, and what is linked in besides.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use testkit::{Architecture, process::output, tool};

use super::{release::Release, tree::workspace};
use crate::build::cargo;

/// The packages that are shipped.
const SHIPPED: [&str; 2] = ["ipfilter", "ipfilter-authorize"];

/// Writes it; where it is.
///
/// # Errors
/// When cargo can't tell what depends on what.
pub(super) fn write(
    architectures: &[Architecture],
    release: &Release,
    folder: &Path,
) -> Result<PathBuf> {
    let mut parts = Parts::default();
    for architecture in architectures {
        parts.collect(&architecture.target(), &SHIPPED)?;
    }
    parts.collect(toolchain::TARGET, &["ipfilter-ebpf"])?;
    let file = folder.join(format!("ipfilter-{}.cdx.json", release.version));
    fs::write(&file, serde_json::to_vec_pretty(&parts.document(release)?)?)?;
    Ok(file)
}

/// Crates by what CycloneDX refers to them by, and what each depends on.
#[derive(Debug, Default)]
struct Parts {
    components: BTreeMap<String, Value>,
    dependencies: BTreeMap<String, BTreeSet<String>>,
}

impl Parts {
    /// Adds what these packages are made of when built for `target`.
    fn collect(&mut self, target: &str, roots: &[&str]) -> Result<()> {
        let mut command = cargo();
        command
            .args(["metadata", "--format-version=1", "--locked", "--offline"])
            .arg(format!("--filter-platform={target}"))
            .current_dir(workspace());
        let metadata: Value = serde_json::from_str(&output(&mut command)?)?;
        let checksums = checksums()?;
        let packages: BTreeMap<&str, &Value> = list(&metadata, "/packages")
            .filter_map(|package| Some((text(package, "id")?, package)))
            .collect();
        let nodes: BTreeMap<&str, &Value> = list(&metadata, "/resolve/nodes")
            .filter_map(|node| Some((text(node, "id")?, node)))
            .collect();
        let mut open: Vec<&str> = packages
            .iter()
            .filter(|(_, package)| text(package, "name").is_some_and(|name| roots.contains(&name)))
            .map(|(id, _)| *id)
            .collect();
        let mut seen = BTreeSet::new();
        while let Some(id) = open.pop() {
            let (Some(package), Some(node)) = (packages.get(id), nodes.get(id)) else {
                continue;
            };
            if is_macro(package) || !seen.insert(id) {
                continue;
            }
            let needs: Vec<&str> = linked(node)
                .filter(|id| packages.get(id).is_some_and(|package| !is_macro(package)))
                .collect();
            let own = reference(package);
            let below = needs
                .iter()
                .filter_map(|id| Some(reference(packages.get(id)?)));
            self.dependencies
                .entry(own.clone())
                .or_default()
                .extend(below);
            self.components.insert(own, component(package, &checksums));
            open.extend(needs);
        }
        Ok(())
    }

    fn document(mut self, release: &Release) -> Result<Value> {
        let own = format!("pkg:generic/ipfilter@{}", release.version);
        let roots = SHIPPED.iter().filter_map(|name| {
            let start = format!("pkg:cargo/{name}@");
            self.components.keys().find(|key| key.starts_with(&start))
        });
        let mut top: BTreeSet<String> = roots.cloned().collect();
        for (name, version, license) in linked_besides()? {
            let key = format!("pkg:generic/{name}@{version}");
            let component = json!({
                "type": "library", "bom-ref": key, "name": name, "version": version, "purl": key,
                "licenses": [{"expression": license}],
            });
            self.components.insert(key.clone(), component);
            self.dependencies.insert(key.clone(), BTreeSet::new());
            top.insert(key);
        }
        self.dependencies.insert(own.clone(), top);
        let dependencies = self
            .dependencies
            .iter()
            .map(|(own, below)| json!({"ref": own, "dependsOn": below}));
        Ok(json!({
            "bomFormat": "CycloneDX",
            "specVersion": "1.6",
            "version": 1,
            "metadata": {
                "timestamp": release.date("+%Y-%m-%dT%H:%M:%SZ")?,
                "component": {
                    "type": "application", "bom-ref": own, "name": "ipfilter", "version": release.version,
                    "purl": own, "licenses": [{"expression": env!("CARGO_PKG_LICENSE")}],
                },
            },
            "components": self.components.values().collect::<Vec<_>>(),
            "dependencies": dependencies.collect::<Vec<_>>(),
        }))
    }
}

/// What a package links: not what only builds or tests it.
fn linked(node: &Value) -> impl Iterator<Item = &str> {
    list(node, "/deps")
        .filter(|dependency| {
            list(dependency, "/dep_kinds").any(|kind| kind.get("kind").is_some_and(Value::is_null))
        })
        .filter_map(|dependency| text(dependency, "pkg"))
}

/// Whether it runs in the compiler only.
fn is_macro(package: &Value) -> bool {
    list(package, "/targets")
        .any(|target| list(target, "/kind").any(|kind| kind.as_str() == Some("proc-macro")))
}

fn component(package: &Value, checksums: &BTreeMap<(String, String), String>) -> Value {
    let (name, version) = named(package);
    let key = reference(package);
    let mut component = json!({
        "type": "library", "bom-ref": key, "name": name, "version": version, "purl": key,
    });
    if let Some(fields) = component.as_object_mut() {
        if let Some(license) = text(package, "license") {
            // Old crates separate alternatives by a slash.
            let license = license.replace('/', " OR ");
            fields.insert("licenses".to_owned(), json!([{"expression": license}]));
        }
        if let Some(checksum) = checksums.get(&(name.to_owned(), version.to_owned())) {
            let hashes = json!([{"alg": "SHA-256", "content": checksum}]);
            fields.insert("hashes".to_owned(), hashes);
        }
    }
    component
}

fn reference(package: &Value) -> String {
    let (name, version) = named(package);
    format!("pkg:cargo/{name}@{version}")
}

fn named(package: &Value) -> (&str, &str) {
    let field = |name| text(package, name).unwrap_or_default();
    (field("name"), field("version"))
}

fn text<'a>(value: &'a Value, field: &str) -> Option<&'a str> {
    value.get(field)?.as_str()
}

fn list<'a>(value: &'a Value, path: &str) -> impl Iterator<Item = &'a Value> {
    value
        .pointer(path)
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
}

/// The checksums of the archives that crates come in, by name and version.
fn checksums() -> Result<BTreeMap<(String, String), String>> {
    let lock = fs::read_to_string(workspace().join("Cargo.lock"))?;
    Ok(lock
        .split("[[package]]")
        .filter_map(|entry| {
            let field = |name: &str| {
                let start = format!("{name} = \"");
                let line = entry.lines().find_map(|line| line.strip_prefix(&start));
                line.map(|value| value.trim_end_matches('"').to_owned())
            };
            Some(((field("name")?, field("version")?), field("checksum")?))
        })
        .collect())
}

/// What is linked in besides crates: name, version and license.
fn linked_besides() -> Result<[(&'static str, String, &'static str); 2]> {
    let mut ldd = Command::new(tool("ldd", "libc-bin")?);
    let said = output(ldd.arg("--version").env("LC_ALL", "C"))?;
    let glibc = said.lines().next().and_then(|line| line.rsplit(' ').next());
    let mut rustc = Command::new("rustc");
    let said = output(rustc.arg("-V"))?;
    let rust = said.split(' ').nth(1);
    Ok([
        (
            "glibc",
            glibc
                .context("`ldd --version` names no version")?
                .to_owned(),
            "LGPL-2.1-or-later",
        ),
        (
            "rust-std",
            rust.context("`rustc -V` names no version")?.to_owned(),
            "MIT OR Apache-2.0",
        ),
    ])
}
