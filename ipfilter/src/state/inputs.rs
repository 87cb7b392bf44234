//! All that a plan is made from but the time: what was asked for, and the texts of the policies.
//!
//! Kept in the state directory for the deployment in force, the one before it, and as many earlier ones as there
//! is room for, which `explain --live --at` asks. Texts rather than
//! tables: they say what holds at any time, to any version of this program.

use std::{
    collections::HashSet,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, anyhow, ensure};
use ipfilter_bundle::{Bundle, Release};
use serde::{Deserialize, Serialize};

use super::{fleet::Accepted, input_file::InputFile, record::Record, store, trial::Trial};
use crate::config::{ApiConfig, Config, ConfigSource, Folder, received};
use crate::failure::Failure;
use crate::{instance::Instance, policy::Source};

/// How the files are called; the rest is the beginning of their inputs' name.
const PREFIX: &str = "inputs-";

/// The inputs that are kept whatever their size: of the deployment in force and the one before.
const NEEDED: usize = 2;

/// The bytes that all others may take.
const ROOM: u64 = 64 << 20;

/// What a plan is made from.
#[derive(Clone, Debug)]
pub struct Inputs {
    pub(crate) spec: Config,
    /// By API.
    pub(crate) policies: Vec<Source>,
    /// The files that they were read from; none where they were kept.
    pub(crate) files: Vec<InputFile>,
}

/// As they are written.
#[derive(Serialize, Deserialize)]
struct Written<S, T> {
    spec: S,
    /// Names and texts.
    policies: Vec<(T, T)>,
}

impl Inputs {
    /// Reads what `source` asks `instance` for, and the policies that it names.
    ///
    /// # Errors
    ///
    /// When one of the files can't be read, or the configuration makes no sense.
    pub(crate) fn of(source: &ConfigSource, instance: &Instance) -> Result<Self, Failure> {
        let config = InputFile::of_config(source);
        Self::asked((source, source.read()?), config, instance)
    }

    /// Reads what the configuration `host` of `source` asks for, which was read from the file `config`: where it
    /// follows a fleet, the bundle that was accepted, if one was. Without one, and with no APIs of its own, what was in
    /// force before stays: a host that joins a fleet is not open until the first bundle.
    ///
    /// # Errors
    ///
    /// When a file or the bundle can't be read, or is not to be trusted any more.
    pub(crate) fn asked(
        (source, host): (&ConfigSource, Config),
        config: Option<InputFile>,
        instance: &Instance,
    ) -> Result<Self, Failure> {
        let Some(fleet) = &host.fleet else {
            return Self::read(host, config);
        };
        let accepted = Accepted::load(instance)?;
        let Some((release, bundle)) = accepted.bundle(instance)? else {
            if host.awaits_bundle()
                && let Some(kept) = Self::in_force(instance)?
            {
                return Ok(kept.until_a_bundle(host));
            }
            return Self::read(host, config);
        };
        release
            .verify(&fleet.trusted_keys)
            .map_err(|refused| anyhow!("{} was accepted before: {refused}", release.release))?;
        Self::of_bundle((source, &host), &release.release, &bundle, config)
    }

    /// Those of the deployment that is recorded as in force, if one is.
    fn in_force(instance: &Instance) -> anyhow::Result<Option<Self>> {
        let record = Record::load(instance)?;
        let Some(current) = record.current().filter(|current| !current.nowhere) else {
            return Ok(None);
        };
        let name = current.inputs.as_ref().context(
            "no bundle of the fleet was accepted yet, and what is in force was made of no policies that are kept",
        )?;
        Self::load(instance, name).map(Some)
    }

    /// The same, for a host that follows a fleet from now on.
    fn until_a_bundle(mut self, host: Config) -> Self {
        self.spec.file = host.file;
        self.spec.fleet = host.fleet;
        self.spec.service = host.service;
        self
    }

    /// What a bundle comes to on this host, whose configuration was read from the file `config`.
    ///
    /// # Errors
    ///
    /// When the bundle is wrong.
    pub(crate) fn of_bundle(
        (source, host): (&ConfigSource, &Config),
        release: &Release,
        bundle: &Bundle,
        config: Option<InputFile>,
    ) -> Result<Self, Failure> {
        let mut spec = received(bundle, release, host)?;
        source.apply(&mut spec);
        let folder = Folder::Bundle(bundle);
        let policies = spec.apis.iter().map(|api| Self::policy_in(folder, api));
        Ok(Self {
            policies: policies.collect::<Result<_, _>>()?,
            spec,
            files: config.into_iter().collect(),
        })
    }

    /// Reads the policies that `spec` names, which was read from the file `config`.
    ///
    /// # Errors
    ///
    /// When one can't be read.
    pub(crate) fn read(spec: Config, config: Option<InputFile>) -> Result<Self, Failure> {
        let policies = spec.apis.iter().map(Self::policy);
        let policies = policies.collect::<Result<Vec<_>, _>>()?;
        let mut files: Vec<_> = config.into_iter().collect();
        for (api, policy) in spec.apis.iter().zip(&policies) {
            if api.policy != Path::new("-") {
                files.push(InputFile::holding(&api.policy, policy.text()));
            }
            let body = api.respond_body.as_deref();
            files.extend(body.map(InputFile::now));
        }
        let mut seen = HashSet::new();
        files.retain(|file| seen.insert(file.path.clone()));
        Ok(Self {
            policies,
            spec,
            files,
        })
    }

    /// Reads the policy of one API.
    ///
    /// # Errors
    ///
    /// When it can't be read.
    pub(crate) fn policy(api: &ApiConfig) -> Result<Source, Failure> {
        Self::policy_in(Folder::Disk, api)
    }

    fn policy_in(folder: Folder<'_>, api: &ApiConfig) -> Result<Source, Failure> {
        Ok(folder
            .read_policy(&api.policy)
            .with_context(|| format!("can't read the policy `{}`", api.policy.display()))?)
    }

    /// The same, at no interface: nothing is filtered.
    pub(crate) fn nowhere(mut self) -> Self {
        self.spec.interfaces.clear();
        self
    }

    /// Whether they are for no interface.
    pub(crate) fn is_nowhere(&self) -> bool {
        self.spec.interfaces.is_empty()
    }

    /// As bytes, from which [`Self::load`] makes the same again.
    fn bytes(&self) -> anyhow::Result<Vec<u8>> {
        let policies = self.policies.iter();
        let written = Written {
            spec: &self.spec,
            policies: policies.map(|text| (text.name(), text.text())).collect(),
        };
        // As large as the texts, or nearly: quotes and line ends take a byte more.
        let texts = self.policies.iter().map(|text| text.text().len());
        let mut bytes = Vec::with_capacity(texts.sum::<usize>() / 4 * 5);
        serde_json::to_writer(&mut bytes, &written).context("can't write the policies down")?;
        Ok(bytes)
    }

    /// The name they have: the SHA-256 of what is written of them, in hexadecimal.
    ///
    /// # Errors
    ///
    /// When they can't be written at all.
    pub(crate) fn name(&self) -> anyhow::Result<String> {
        self.bytes().map(|bytes| store::checksum(&bytes))
    }

    /// Whether that is their name.
    pub(crate) fn is_called(&self, name: &str) -> bool {
        self.name().is_ok_and(|own| own == name)
    }

    /// Keeps them for `instance`, and returns their name.
    ///
    /// # Errors
    ///
    /// When they can't be written.
    pub(crate) fn keep(&self, instance: &Instance) -> anyhow::Result<String> {
        let bytes = self.bytes()?;
        let name = store::checksum(&bytes);
        // Written once, it need not be again: a sync takes its time.
        let path = path(instance, &name);
        if !store::holds(&path, &name, &bytes) {
            store::write(&path, &bytes)?;
        }
        Ok(name)
    }

    /// The inputs of `instance` that have this name.
    ///
    /// # Errors
    ///
    /// When they are not there, or damaged.
    pub(crate) fn load(instance: &Instance, name: &str) -> anyhow::Result<Self> {
        let path = path(instance, name);
        let shown = path.display();
        let bytes = store::read(&path)?.with_context(|| format!("`{shown}` is not there"))?;
        ensure!(
            store::checksum(&bytes) == name,
            "`{shown}` is not what was kept there"
        );
        let written: Written<Config, String> =
            serde_json::from_slice(&bytes).with_context(|| format!("`{shown}` can't be read"))?;
        let policies = written.policies.into_iter();
        Ok(Self {
            files: Vec::new(),
            spec: written.spec,
            policies: policies
                .map(|(name, text)| Source::new(name, text))
                .collect(),
        })
    }

    /// What there is to go back to from a trial of `instance`.
    pub(crate) fn before(instance: &Instance, trial: &Trial) -> anyhow::Result<Self> {
        match &trial.back {
            Some(name) => Self::load(instance, name),
            None => Ok(Self::load(instance, &trial.tried)?.nowhere()),
        }
    }

    /// Removes what is kept for `instance` but for those of a trial and these: the first [`NEEDED`], and of the
    /// others the first that fit into [`ROOM`].
    ///
    /// # Errors
    ///
    /// When that fails.
    pub(crate) fn forget_but(instance: &Instance, names: &[String]) -> anyhow::Result<()> {
        let trial = Trial::load(instance)?;
        let tried = trial
            .iter()
            .flat_map(|trial| [Some(&trial.tried), trial.back.as_ref()]);
        let mut room = ROOM;
        let fits = |(number, path): &(usize, PathBuf)| {
            if *number < NEEDED {
                return true;
            }
            let size = fs::metadata(path).map_or(0, |file| file.len());
            let fits = size <= room;
            room = room.saturating_sub(size);
            fits
        };
        let paths = names.iter().map(|name| path(instance, name));
        let paths = paths.enumerate().filter(fits).map(|(_, path)| path);
        let tried = tried.flatten().map(|name| path(instance, name));
        let kept: Vec<PathBuf> = paths.chain(tried).collect();
        let folder = instance.state();
        let entries =
            fs::read_dir(&folder).with_context(|| format!("can't list `{}`", folder.display()))?;
        for entry in entries.flatten() {
            let ours = entry.file_name().to_string_lossy().starts_with(PREFIX);
            if ours && !kept.contains(&entry.path()) {
                store::remove(&entry.path())?;
            }
        }
        Ok(())
    }
}

fn path(instance: &Instance, name: &str) -> PathBuf {
    let short = name.get(..16).unwrap_or(name);
    instance.state().join(format!("{PREFIX}{short}.json"))
}
