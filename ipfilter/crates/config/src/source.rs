//! How the operator asks: on the command line, or in a file that may change.

use std::path::{Path, PathBuf};

use clap::{Args as _, Command, Id};

use super::{
    ApiConfig, Config, Folder, PolicyOptions, Service, Unusable,
    fleet::Variables,
    read::read_for,
    table::{Given, Settings as _},
};

/// The options of one API and of the whole that `--config` leaves in place.
const BESIDE_A_FILE: [&str; 1] = ["lookup"];

/// The command line's options, or a file in their place.
#[derive(Clone, Debug, clap::Args)]
pub struct ConfigSource {
    /// First, since reading the other fields takes their values away.
    #[command(flatten)]
    given: Given,

    /// Read the settings from this configuration file instead, for several interfaces and APIs.
    /// `ipfilter reload` reads it again
    #[arg(long, value_name = "FILE", conflicts_with_all = replaced())]
    config: Option<PathBuf>,

    #[command(flatten)]
    line: Config,

    #[command(flatten)]
    api: ApiConfig,
}

/// The policy options of a command that reads files: what is given comes before what a file says.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct GivenOptions {
    /// First, since reading the other fields takes their values away.
    #[command(flatten)]
    given: Given,

    /// The options.
    #[command(flatten)]
    pub options: PolicyOptions,
}

impl GivenOptions {
    /// Takes over what was given.
    pub fn apply(&self, to: &mut PolicyOptions) {
        to.overlay(&self.options, &self.given);
    }
}

/// The options that a file takes the place of.
fn replaced() -> Vec<Id> {
    let ids = |command: Command| -> Vec<Id> {
        let all = command.get_arguments();
        all.map(|argument| argument.get_id().clone()).collect()
    };
    let options = ids(PolicyOptions::augment_args(Command::new("")));
    let all = ids(ApiConfig::augment_args(Config::augment_args(Command::new(
        "",
    ))));
    all.into_iter()
        .filter(|id| !options.contains(id) && !BESIDE_A_FILE.contains(&id.as_str()))
        .collect()
}

impl ConfigSource {
    /// That of a file, with nothing said beside it.
    #[must_use]
    pub fn file(path: impl Into<PathBuf>) -> Self {
        Self {
            config: Some(path.into()),
            line: Config::default(),
            api: ApiConfig::default(),
            given: Given::default(),
        }
    }

    /// The same, with what only a process that stays running can do.
    #[must_use]
    pub fn with_service(mut self, service: &Service) -> Self {
        self.line.service = service.clone();
        self
    }

    /// The same, with these options for the policies of all APIs.
    #[must_use]
    pub fn with_options(mut self, options: &GivenOptions) -> Self {
        self.given = options.given.clone();
        self.api.options = options.options.clone();
        self
    }

    /// The file, if it is one.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        self.config.as_deref()
    }

    /// Refuses options that make no sense together. A file is looked at only when it is read.
    ///
    /// # Errors
    ///
    /// When they don't.
    pub fn check(&self) -> Result<(), Unusable> {
        match self.config {
            Some(_) => Ok(()),
            None => self.read_line().map(drop),
        }
    }

    /// What is asked for now.
    ///
    /// # Errors
    ///
    /// When the configuration can't be read, or makes no sense.
    pub fn read(&self) -> Result<Config, Unusable> {
        self.read_for(Variables::None)
    }

    /// The same for no host in particular: what variables stand for is open.
    ///
    /// # Errors
    ///
    /// When the configuration can't be read, or makes no sense.
    pub fn read_anywhere(&self) -> Result<Config, Unusable> {
        self.read_for(Variables::Any)
    }

    fn read_for(&self, variables: Variables<'_>) -> Result<Config, Unusable> {
        let Some(path) = &self.config else {
            return self.read_line();
        };
        let mut config = read_for(path, variables)
            .map_err(|error| {
                let path = path.display();
                Unusable::Other(format!("can't read the configuration `{path}`: {error}"))
            })?
            .into_config()?;
        self.apply(&mut config);
        Ok(config)
    }

    /// Takes over into what a file or a bundle says what was given beside a file.
    pub fn apply(&self, config: &mut Config) {
        config.overlay(&self.line, &self.given);
        for api in &mut config.apis {
            api.overlay(&self.api, &self.given);
        }
    }

    fn read_line(&self) -> Result<Config, Unusable> {
        let mut api = self.api.clone();
        api.load_response(Folder::Disk)
            .map_err(|(setting, message)| {
                let option = setting.replace('_', "-");
                Unusable::Other(format!("`--{option}`: {message}"))
            })?;
        Ok(Config {
            apis: vec![api],
            ..self.line.clone()
        })
    }

    /// What the process that stays is to do while `config` is in force.
    #[must_use]
    pub fn service(&self, config: &Config) -> Service {
        if self.config.is_none() {
            return self.line.service.clone();
        }
        let mut service = config.service.clone();
        service.overlay(&self.line.service, &self.given);
        service
    }

    /// Whether `config` is an answer to the same question: from the same file, or from the same options.
    #[must_use]
    pub fn is_for(&self, config: &Config) -> bool {
        if self.config.is_some() {
            return config.file == self.config;
        }
        let asked = Config {
            apis: vec![self.api.clone()],
            ..self.line.clone()
        };
        let filters = |config: &Config| {
            let mut config = config.clone();
            config.service = Service::default();
            for api in &mut config.apis {
                // It was read from a file that may have changed since.
                api.response = Default::default();
            }
            config
        };
        filters(&asked) == filters(config)
    }
}
