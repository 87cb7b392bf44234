//! The RPM: rpmbuild packs the tree by the spec file in `ipfilter/dist/rpm`.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};
use testkit::{process::output, tool};

use super::{
    debian::{Compression, files_below},
    release::{Release, homepage, maintainer},
    tree::{Tree, workspace},
};

/// What only Debian reads, and what Fedora and others keep elsewhere.
const LEFT_OUT: [&str; 3] = [
    "usr/share/doc/ipfilter/changelog.Debian.gz",
    "usr/share/lintian",
    "usr/share/zsh/vendor-completions",
];

/// Where zsh finds completions there.
const ZSH: (&str, &str) = (
    "usr/share/zsh/vendor-completions/_ipfilter",
    "usr/share/zsh/site-functions/_ipfilter",
);

/// What rpmbuild would do besides packing: strip, compress and check what is built already, and note who built it when.
const SETTINGS: [(&str, &str); 9] = [
    ("__os_install_post", "%{nil}"),
    ("debug_package", "%{nil}"),
    ("_build_id_links", "none"),
    ("_unpackaged_files_terminate_build", "1"),
    ("_buildhost", "reproducible"),
    ("use_source_date_epoch_as_buildtime", "1"),
    ("clamp_mtime_to_source_date_epoch", "1"),
    ("_target_os", "linux"),
    ("optflags", "%{nil}"),
];

/// Writes the package; where it is.
///
/// # Errors
/// When rpmbuild fails.
pub(super) fn pack(
    tree: &Tree,
    release: &Release,
    compression: Compression,
    folder: &Path,
) -> Result<PathBuf> {
    let work = tree.beside("rpm");
    let root = work.join("tree");
    tree.copy_to(&root, &LEFT_OUT)?;
    let completion = root.join(ZSH.1);
    fs::create_dir_all(completion.parent().unwrap_or(&root))?;
    fs::copy(tree.root().join(ZSH.0), completion)?;
    let spec = work.join("ipfilter.spec");
    fs::write(&spec, filled(&root, release)?)?;
    let mut build = Command::new(tool("rpmbuild", "rpm")?);
    build.args(["-bb", "--quiet", "--nodeps"]);
    build.arg(format!("--target={}-linux", tree.architecture().linux()));
    let payload = match compression {
        Compression::Small => "w6.xzdio",
        Compression::Fast => "w1.gzdio",
    };
    let top = work.join("top").display().to_string();
    let own = [("_binary_payload", payload), ("_topdir", &top)];
    for (name, value) in SETTINGS.iter().chain(&own) {
        build.arg("--define").arg(format!("{name} {value}"));
    }
    build.env("SOURCE_DATE_EPOCH", release.epoch.to_string());
    output(build.arg(&spec))?;
    let name = format!(
        "ipfilter-{}.{}.rpm",
        release.full(),
        tree.architecture().linux()
    );
    let built = work
        .join("top/RPMS")
        .join(tree.architecture().linux())
        .join(&name);
    let package = folder.join(name);
    fs::copy(&built, &package)
        .with_context(|| format!("rpmbuild made no `{}`", built.display()))?;
    fs::remove_dir_all(work)?;
    Ok(package)
}

fn filled(root: &Path, release: &Release) -> Result<String> {
    let template = fs::read_to_string(workspace().join("ipfilter/dist/rpm/ipfilter.spec"))?;
    Ok(template
        .replace("@VERSION@", release.version)
        .replace("@REVISION@", &release.revision.to_string())
        .replace("@FULL@", &release.full())
        .replace("@MAINTAINER@", &maintainer())
        .replace("@HOMEPAGE@", &homepage())
        .replace("@DATE@", &release.date("+%a %b %d %Y")?)
        .replace("@TREE@", &root.display().to_string())
        .replace("@FILES@\n", &files(root)?))
}

/// Folders that are this package's own, with all below them.
const OWN: [&str; 2] = ["etc/ipfilter", "usr/share/doc/ipfilter"];

/// The list of files: what operators change is kept when the package is upgraded.
fn files(root: &Path) -> Result<String> {
    let files = files_below(root)?;
    let folders: BTreeSet<&Path> = files
        .iter()
        .flat_map(|file| file.ancestors().skip(1))
        .filter(|folder| OWN.iter().any(|own| folder.starts_with(own)))
        .collect();
    let folders = folders
        .iter()
        .map(|folder| format!("%dir /{}\n", folder.display()));
    let lines = files.iter().map(|file| {
        let kind = match file.components().next() {
            Some(first) if first.as_os_str() == "etc" => "%config(noreplace) ",
            _ if file.starts_with("usr/share/doc") => "%doc ",
            _ => "",
        };
        format!("%attr(-,root,root) {kind}/{}\n", file.display())
    });
    Ok(folders.chain(lines).collect())
}
