//! What makes a setting of one definition.

use ipfilter_document::{
    problem::Path,
    reader::{Member, Reader},
};

/// A setting, as the manual describes it.
#[derive(Clone, Debug)]
pub struct Field {
    /// Its name in the configuration file.
    pub name: &'static str,
    /// What it is for.
    pub help: String,
    /// What to write.
    pub takes: String,
    /// What counts where it is left out, if that is not nothing.
    pub default: Option<String>,
}

/// The options that were given on the command line, by the names of their settings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Given(Vec<String>);

impl Given {
    pub(super) fn has(&self, name: &str) -> bool {
        self.0.iter().any(|given| given == name)
    }
}

impl clap::Args for Given {
    fn augment_args(command: clap::Command) -> clap::Command {
        command
    }

    fn augment_args_for_update(command: clap::Command) -> clap::Command {
        command
    }
}

impl clap::FromArgMatches for Given {
    fn from_arg_matches(matches: &clap::ArgMatches) -> Result<Self, clap::Error> {
        let given = |id: &&clap::Id| {
            matches.value_source(id.as_str()) == Some(clap::parser::ValueSource::CommandLine)
        };
        let names = matches.ids().filter(given);
        Ok(Self(names.map(ToString::to_string).collect()))
    }

    fn update_from_arg_matches(&mut self, matches: &clap::ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

/// A group of settings.
pub trait Settings: Clone {
    /// All of them, in order.
    fn fields() -> Vec<Field>;

    /// Takes a member of an object if it is one of these settings. Notes what is wrong with it.
    fn take(&mut self, reader: &mut Reader, member: &Member<'_>, path: &Path<'_>) -> bool;

    /// Takes over what was given on the command line.
    fn overlay(&mut self, line: &Self, given: &Given);
}

/// Defines a struct whose fields are settings. `parts` are groups of settings whose fields belong to the
/// same object in the file; what is under `also` is no setting.
macro_rules! settings {
    (
        $(#[$about:meta])*
        pub struct $name:ident {
            $(
                $(#[doc = $doc:literal])+
                #[arg($($arg:tt)*)]
                pub $field:ident: $type:ty $(= $default:expr)?,
            )*
        } parts {
            $($(#[$of_part:meta])* pub $part:ident: $group:ty,)*
        } also {
            $($(#[$of_extra:meta])* pub $extra:ident: $other:ty,)*
        }
    ) => {
        #[derive(Clone, Debug, PartialEq, Eq, clap::Args, serde::Serialize, serde::Deserialize)]
        #[serde(default)]
        $(#[$about])*
        pub struct $name {
            $(
                $(#[doc = $doc])+
                #[arg($($arg)*)]
                $(#[arg(default_value_t = $default)])?
                pub $field: $type,
            )*
            $($(#[$of_part])* pub $part: $group,)*
            $($(#[$of_extra])* pub $extra: $other,)*
        }

        impl Default for $name {
            fn default() -> Self {
                Self {
                    $($field: $crate::table::settings!(@default $($default)?),)*
                    $($part: Default::default(),)*
                    $($extra: Default::default(),)*
                }
            }
        }

        impl $crate::table::Settings for $name {
            fn fields() -> Vec<$crate::table::Field> {
                let own = vec![$($crate::table::Field {
                    name: stringify!($field),
                    help: [$($doc),+].map(str::trim).join(" "),
                    takes: <$type as $crate::value::Value>::takes(),
                    default: $crate::value::Value::shown(&Self::default().$field),
                }),*];
                let parts: Vec<Vec<$crate::table::Field>> = vec![$(<$group>::fields()),*];
                [vec![own], parts].concat().concat()
            }

            fn take(
                &mut self,
                reader: &mut ipfilter_document::reader::Reader,
                member: &ipfilter_document::reader::Member<'_>,
                path: &ipfilter_document::problem::Path<'_>,
            ) -> bool {
                match member.name.as_ref() {
                    $(stringify!($field) => {
                        let value = $crate::value::Value::read(reader, member.value, path);
                        if let Some(value) = value {
                            self.$field = value;
                        }
                        true
                    })*
                    _ => false $(|| self.$part.take(reader, member, path))*,
                }
            }

            fn overlay(&mut self, line: &Self, given: &$crate::table::Given) {
                $(if given.has(stringify!($field)) {
                    self.$field.clone_from(&line.$field);
                })*
                $(self.$part.overlay(&line.$part, given);)*
            }
        }
    };
    (@default) => { Default::default() };
    (@default $default:expr) => { $default };
}

pub(super) use settings;
