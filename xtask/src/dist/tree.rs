//! The files as they lie on a host.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use testkit::{Architecture, process::output, tool};

use super::release::{Release, maintainer};
use crate::build::Shipped;
pub(super) use crate::sources::workspace;

/// The programs.
pub(super) const PROGRAMS: [&str; 2] = ["ipfilter", "ipfilter-authorize"];

/// Files of the repository, and where they go.
const FILES: &[(&str, &str)] = &[
    ("ipfilter/dist/ipfilter.json", "etc/ipfilter/ipfilter.json"),
    ("ipfilter/dist/policy.json", "etc/ipfilter/policy.json"),
    ("ipfilter/dist/ipfilter.service", UNIT),
    ("ipfilter/dist/ipfilter-authorize.service", SERVICE_UNIT),
    (
        "ipfilter/dist/ipfilter.sysusers",
        "usr/lib/sysusers.d/ipfilter.conf",
    ),
    (
        "ipfilter/dist/ipfilter-verify.service",
        "usr/lib/systemd/system/ipfilter-verify.service",
    ),
    (
        "ipfilter/dist/ipfilter-verify.timer",
        "usr/lib/systemd/system/ipfilter-verify.timer",
    ),
    (
        "ipfilter/dist/debian/copyright",
        "usr/share/doc/ipfilter/copyright",
    ),
    (
        "ipfilter/dist/debian/lintian-overrides",
        "usr/share/lintian/overrides/ipfilter",
    ),
    (
        "ipfilter/dist/alerts.yml",
        "usr/share/doc/ipfilter/alerts.yml",
    ),
    (
        "ipfilter/dist/grafana.json",
        "usr/share/doc/ipfilter/grafana.json",
    ),
];

/// What `ipfilter manual` writes beside manual pages, and where it goes.
const COMPLETIONS: &[(&str, &str)] = &[
    (
        "ipfilter.bash",
        "usr/share/bash-completion/completions/ipfilter",
    ),
    ("_ipfilter", "usr/share/zsh/vendor-completions/_ipfilter"),
    (
        "ipfilter.fish",
        "usr/share/fish/vendor_completions.d/ipfilter.fish",
    ),
];

/// Not below `lib`, which is a link on today's systems: unpacking there would replace it.
const UNIT: &str = "usr/lib/systemd/system/ipfilter.service";

/// That of the authorization service.
const SERVICE_UNIT: &str = "usr/lib/systemd/system/ipfilter-authorize.service";

/// A unit for instances beside the default one.
struct Template {
    /// The unit of the default one.
    unit: &'static str,
    template: &'static str,
    /// How they differ.
    instances: &'static [(&'static str, &'static str)],
}

const TEMPLATES: [Template; 2] = [
    Template {
        unit: UNIT,
        template: "usr/lib/systemd/system/ipfilter@.service",
        instances: &[
            (
                "# Whoever runs the filter has it verified once a day.\nWants=ipfilter-verify.timer\n",
                "",
            ),
            ("Source filter for APIs", "Source filter %i for APIs"),
            (
                "/usr/bin/ipfilter run --config /etc/ipfilter/ipfilter.json",
                "/usr/bin/ipfilter --instance %i run --config /etc/ipfilter/%i.json",
            ),
            (
                "/usr/bin/ipfilter reload",
                "/usr/bin/ipfilter --instance %i reload",
            ),
        ],
    },
    Template {
        unit: SERVICE_UNIT,
        template: "usr/lib/systemd/system/ipfilter-authorize@.service",
        instances: &[
            ("whole requests, by", "whole requests for %i, by"),
            ("ipfilter.service\n\n", "ipfilter@%i.service\n\n"),
            (
                "/run/ipfilter/default.policies --metrics unix:/run/ipfilter-authorize/",
                "/run/ipfilter/%i.policies --metrics unix:/run/ipfilter-authorize/%i/",
            ),
            (
                "RuntimeDirectory=ipfilter-authorize\n",
                "RuntimeDirectory=ipfilter-authorize/%i\n",
            ),
        ],
    },
];

/// A folder that represents the root of a host.
#[derive(Debug)]
pub(super) struct Tree {
    root: PathBuf,
    architecture: Architecture,
}

impl Tree {
    /// One below `folder`.
    pub(super) fn new(folder: &Path, architecture: Architecture) -> Self {
        Self {
            root: folder.join(architecture.linux()),
            architecture,
        }
    }

    /// Whose programs are in it.
    pub(super) fn architecture(&self) -> Architecture {
        self.architecture
    }

    /// A folder for work on this tree.
    pub(super) fn beside(&self, name: &str) -> PathBuf {
        let own = format!("{}-{name}", self.architecture.linux());
        self.root.with_file_name(own)
    }

    /// The folder.
    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// Puts in everything but what only a Debian package has.
    ///
    /// # Errors
    /// When a file is missing or a tool fails.
    pub(super) fn fill(&self, shipped: &Shipped, manual: &Path, release: &Release) -> Result<()> {
        for (name, binary) in PROGRAMS.iter().zip([&shipped.ipfilter, &shipped.authorize]) {
            let program = self.copy(binary, &format!("usr/bin/{name}"))?;
            set_mode(&program, 0o755)?;
        }
        for (from, to) in FILES {
            self.copy(&workspace().join(from), to)?;
        }
        for Template {
            unit,
            template,
            instances,
        } in &TEMPLATES
        {
            let unit = fs::read_to_string(self.root.join(unit))?;
            self.text(template, &instance(&unit, instances)?)?;
        }
        for policy in files(&workspace().join("policies"))? {
            let to = format!("usr/share/doc/ipfilter/examples/{}", name(&policy));
            self.copy(&policy, &to)?;
        }
        self.documentation()?;
        self.integrations()?;
        for (from, to) in COMPLETIONS {
            self.copy(&manual.join(from), to)?;
        }
        for page in files(manual)? {
            if let Some(section @ ("5" | "7" | "8")) = page.extension().and_then(|end| end.to_str())
            {
                let to = format!("usr/share/man/man{section}/{}.gz", name(&page));
                self.compressed(&fs::read_to_string(page)?, &to)?;
            }
        }
        let changes = fs::read_to_string(workspace().join("CHANGELOG.md"))?;
        self.compressed(&changes, "usr/share/doc/ipfilter/changelog.gz")?;
        let changes = debian_changes(release)?;
        self.compressed(&changes, "usr/share/doc/ipfilter/changelog.Debian.gz")
    }

    /// The README and the pages that it links to.
    fn documentation(&self) -> Result<()> {
        let readme = fs::read_to_string(workspace().join("README.md"))?;
        let readme = readme.replace("](ipfilter/docs/", "](docs/");
        self.text("usr/share/doc/ipfilter/README.md", &readme)?;
        for folder in ["", "guide", "reference"] {
            let pages = files(&workspace().join("ipfilter/docs").join(folder))?;
            for page in pages.iter().filter(|page| page.is_file()) {
                let to = Path::new("usr/share/doc/ipfilter/docs").join(folder);
                self.copy(page, &to.join(name(page)).display().to_string())?;
            }
        }
        Ok(())
    }

    /// Settings of other programs; scripts stay scripts.
    fn integrations(&self) -> Result<()> {
        let from = workspace().join("ipfilter/dist/integrations");
        for folder in ["", "fail2ban", "crowdsec"] {
            let all = files(&from.join(folder))?;
            for file in all.iter().filter(|file| file.is_file()) {
                let to = Path::new("usr/share/doc/ipfilter/integrations").join(folder);
                let copied = self.copy(file, &to.join(name(file)).display().to_string())?;
                if is_script(file)? {
                    set_mode(&copied, 0o755)?;
                }
            }
        }
        Ok(())
    }

    /// Copies everything but what is left out, files or folders.
    ///
    /// # Errors
    /// When that fails.
    pub(super) fn copy_to(&self, folder: &Path, left_out: &[&str]) -> Result<()> {
        fs::create_dir_all(folder)?;
        let mut copy = Command::new(tool("cp", "coreutils")?);
        copy.args(["--archive", "--no-target-directory"]);
        output(copy.arg(&self.root).arg(folder))?;
        for path in left_out.iter().map(|path| folder.join(path)) {
            if path.is_dir() {
                fs::remove_dir_all(path)?;
            } else {
                fs::remove_file(path)?;
            }
        }
        Ok(())
    }

    /// Writes a file.
    ///
    /// # Errors
    /// When that fails.
    pub(super) fn text(&self, to: &str, text: &str) -> Result<PathBuf> {
        let file = self.place(to)?;
        fs::write(&file, text)?;
        set_mode(&file, 0o644)?;
        Ok(file)
    }

    fn copy(&self, from: &Path, to: &str) -> Result<PathBuf> {
        let file = self.place(to)?;
        fs::copy(from, &file).with_context(|| format!("can't copy `{}`", from.display()))?;
        set_mode(&file, 0o644)?;
        Ok(file)
    }

    fn compressed(&self, text: &str, to: &str) -> Result<()> {
        let plain = self.text(to.trim_end_matches(".gz"), text)?;
        let mut gzip = Command::new(tool("gzip", "gzip")?);
        // Neither the name nor the time goes in.
        output(
            gzip.args(["--best", "--no-name"])
                .arg(plain)
                .stdin(Stdio::null()),
        )?;
        Ok(())
    }

    /// Makes the folders down to a file, with modes that don't depend on who builds.
    fn place(&self, to: &str) -> Result<PathBuf> {
        let file = self.root.join(to);
        let parent = file.parent().unwrap_or(&self.root);
        fs::create_dir_all(parent)?;
        for folder in parent
            .ancestors()
            .take_while(|path| path.starts_with(&self.root))
        {
            set_mode(folder, 0o755)?;
        }
        Ok(file)
    }
}

/// Sets a file's mode, as in chmod(2).
///
/// # Errors
/// When that fails.
pub(super) fn set_mode(file: &Path, mode: u32) -> Result<()> {
    Ok(fs::set_permissions(file, fs::Permissions::from_mode(mode))?)
}

fn is_script(file: &Path) -> Result<bool> {
    Ok(fs::read(file)?.starts_with(b"#!"))
}

/// The files of a folder, in order.
fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder)?.map(|entry| Ok(entry?.path()));
    let mut files = entries.collect::<Result<Vec<_>>>()?;
    files.sort();
    Ok(files)
}

fn name(file: &Path) -> String {
    file.file_name().unwrap_or_default().display().to_string()
}

/// The unit of further instances, from that of the default one.
fn instance(unit: &str, instances: &[(&str, &str)]) -> Result<String> {
    instances
        .iter()
        .try_fold(unit.to_owned(), |unit, (from, to)| {
            ensure!(unit.contains(from), "the unit does not say `{from}`");
            Ok(unit.replace(from, to))
        })
}

/// The changelog that Debian's tools read; the changes themselves are in the other one.
fn debian_changes(release: &Release) -> Result<String> {
    Ok(format!(
        "ipfilter ({}) unstable; urgency=medium\n\n  * See changelog.gz.\n\n -- {}  {}\n",
        release.full(),
        maintainer(),
        release.date("--rfc-email")?
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_has_its_own_configuration_and_is_reloaded_by_name() {
        let [filter, service] = TEMPLATES.map(|template| {
            let unit = template.unit.rsplit('/').next().unwrap();
            let unit = fs::read_to_string(workspace().join("ipfilter/dist").join(unit)).unwrap();
            instance(&unit, template.instances).unwrap()
        });
        assert!(filter.contains(
            "ExecStart=/usr/bin/ipfilter --instance %i run --config /etc/ipfilter/%i.json\n"
        ));
        assert!(filter.contains("ExecReload=/usr/bin/ipfilter --instance %i reload\n"));
        assert!(!filter.contains("/ipfilter.json"));
        assert!(!filter.contains("ipfilter-verify"));
        assert!(service.contains("--follow /run/ipfilter/%i.policies "));
        assert!(service.contains("After=network.target ipfilter@%i.service\n"));
        assert!(!service.contains("default"));
    }
}
