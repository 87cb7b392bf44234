//! `ipfilter check`: is this a policy or a configuration, what does it say, and can it be enforced?

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
};

use jiff::Timestamp;

use crate::{
    config::{self, Authorize, GivenOptions, PolicyOptions, ReadApi, Reading},
    files::read_policy,
    policy::{self, Knowledge, Policy, Problem, Severity, Source},
    view::{
        check::{FileReport, FileVerdict, ProblemView, Report, configuration, refusal, summary},
        diagnostics,
        sources::Meaning,
    },
};

use super::{Exit, format::Format};

/// Validate policies or a configuration: who may call, when that changes, and what can be enforced
///
/// A configuration is checked with all that it names: settings, ports, response bodies, and the policy
/// of each API under that API's options. Exits with 2 if the configuration itself is wrong, as `run` does.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Policy files; `-` is standard input
    #[arg(required_unless_present = "config", value_name = "FILE")]
    files: Vec<PathBuf>,

    /// Check this configuration file and every policy that it names
    #[arg(long, value_name = "FILE", conflicts_with = "files")]
    config: Option<PathBuf>,

    /// Output format
    #[arg(long, value_enum, default_value_t)]
    format: Format,

    #[command(flatten)]
    policy: GivenOptions,
}

impl Args {
    /// The check of a configuration, for people.
    pub(super) fn of_config(path: &Path) -> Self {
        Self {
            files: Vec::new(),
            config: Some(path.into()),
            format: Format::Text,
            policy: GivenOptions::default(),
        }
    }
}

/// Runs the command.
///
/// # Errors
///
/// When the outcome cannot be printed.
pub fn run(args: &Args) -> anyhow::Result<Exit> {
    let mut check = Check {
        out: anstream::stdout().lock(),
        format: args.format,
        report: Report::default(),
        unreadable: false,
        invalid: false,
        refused_partial: false,
    };
    let is_usable = match &args.config {
        Some(path) => check.config(path, &args.policy)?,
        None => {
            check.policies(&args.files, &args.policy.options)?;
            true
        }
    };
    if args.format == Format::Json {
        serde_json::to_writer(&mut check.out, &check.report)?;
        writeln!(check.out)?;
    }
    check.out.flush()?;
    Ok(check.exit(is_usable))
}

/// What a policy is checked for.
struct Subject<'a> {
    /// The API of a configuration.
    api: Option<&'a str>,
    options: &'a PolicyOptions,
    /// How an authorization service decides what an interface can't, if one does.
    authorize: Option<&'a Authorize>,
}

/// A check that is under way.
struct Check<W> {
    out: W,
    format: Format,
    report: Report,
    /// Whether a policy could not be read.
    unreadable: bool,
    /// Whether a policy is none.
    invalid: bool,
    /// Whether a policy is only partly enforceable, and that was not accepted.
    refused_partial: bool,
}

impl<W: Write> Check<W> {
    /// Checks policies by themselves.
    fn policies(&mut self, files: &[PathBuf], options: &PolicyOptions) -> anyhow::Result<()> {
        let subject = Subject {
            api: None,
            options,
            authorize: None,
        };
        for path in files {
            match read_policy(path) {
                Ok(source) => self.policy(&source, &subject)?,
                Err(error) => {
                    self.unreadable = true;
                    self.file_unreadable(path, &format!("cannot read the policy: {error}"));
                }
            }
        }
        Ok(())
    }

    /// Checks a configuration and its policies. Returns whether the configuration itself can be used.
    fn config(&mut self, path: &Path, given: &GivenOptions) -> anyhow::Result<bool> {
        let mut reading = match config::read(path) {
            Ok(reading) => reading,
            Err(error) => {
                self.file_unreadable(path, &format!("can't read the configuration: {error}"));
                return Ok(false);
            }
        };
        let apis = std::mem::take(&mut reading.apis);
        let sources: Vec<_> = apis
            .iter()
            .map(|api| (api, read_policy(&api.api.policy)))
            .collect();
        let missing = sources.iter().filter_map(|(api, source)| {
            let error = source.as_ref().err()?;
            Some(unreadable(&reading, api, error))
        });
        let missing: Vec<_> = missing.collect();
        self.unreadable = !missing.is_empty();
        let is_usable = reading.is_valid();
        reading.problems.extend(missing);
        self.configuration(&reading)?;
        for (ReadApi { api, .. }, source) in sources {
            let Ok(source) = source else { continue };
            let mut options = api.options.clone();
            given.apply(&mut options);
            let subject = Subject {
                api: Some(&api.name),
                options: &options,
                authorize: reading.config().authorize.as_ref(),
            };
            self.policy(&source, &subject)?;
        }
        Ok(is_usable)
    }

    /// Reports on a configuration by itself.
    fn configuration(&mut self, reading: &Reading) -> io::Result<()> {
        self.problems(&reading.source, &reading.problems)?;
        if self.format == Format::Text {
            writeln!(self.out, "{}", configuration(reading))?;
        }
        self.report.files.push(FileReport {
            file: reading.source.name().to_owned(),
            api: None,
            verdict: if reading.problems.is_empty() {
                FileVerdict::Valid
            } else {
                FileVerdict::Invalid
            },
            statements: None,
            meaning: None,
            problems: reading.problems.iter().map(ProblemView::from).collect(),
        });
        Ok(())
    }

    /// Checks and reports on one policy.
    fn policy(&mut self, source: &Source, subject: &Subject<'_>) -> io::Result<()> {
        let parsed = policy::parse(source, &subject.options.into());
        let policy = parsed.policy.as_ref();
        let service = policy.zip(subject.authorize);
        let missing = service.map(|(policy, authorize)| missing(policy, authorize));
        let verdict = match parsed.enforceable().into() {
            FileVerdict::Partial if missing.as_ref().is_some_and(Vec::is_empty) => {
                FileVerdict::Whole
            }
            verdict => verdict,
        };
        let meaning = policy.map(|policy| Meaning::of(policy, Timestamp::now()));
        self.problems(source, &parsed.problems)?;
        let name = match subject.api {
            Some(api) => format!("{} (API `{api}`)", source.name()),
            None => source.name().to_owned(),
        };
        let is_accepted = subject.options.allow_partial || subject.authorize.is_some();
        let refused = verdict == FileVerdict::Partial && !is_accepted;
        self.refused_partial |= refused;
        self.invalid |= policy.is_none();
        if self.format == Format::Text {
            match policy.zip(meaning.as_ref()) {
                Some((policy, meaning)) => {
                    writeln!(self.out, "{}", summary(&name, policy, meaning))?;
                }
                None => writeln!(self.out, "{}", refusal(&name, &parsed))?,
            }
            if verdict == FileVerdict::Whole {
                writeln!(
                    self.out,
                    "{name}: whole: interface and authorization service together decide every request"
                )?;
            } else if let Some(missing) = missing.filter(|missing| !missing.is_empty()) {
                let missing = missing.join("; ");
                writeln!(
                    self.out,
                    "{name}: interface and authorization service together decide all but: {missing}"
                )?;
            } else if refused {
                let accepted = match subject.api {
                    Some(_) => "`\"allow_partial\": true` is set for the API",
                    None => "`--allow-partial` is given",
                };
                writeln!(self.out, "{name}: refused unless {accepted}")?;
            }
        }
        self.report.files.push(FileReport {
            file: source.name().to_owned(),
            api: subject.api.map(ToOwned::to_owned),
            verdict,
            statements: policy.map(Policy::statements_len),
            meaning,
            problems: parsed.problems.iter().map(ProblemView::from).collect(),
        });
        Ok(())
    }

    /// Prints problems, unless JSON is wanted.
    fn problems(&mut self, source: &Source, problems: &[Problem]) -> io::Result<()> {
        if self.format == Format::Text {
            for problem in problems {
                writeln!(self.out, "{}\n", diagnostics::render(source, problem))?;
            }
        }
        Ok(())
    }

    /// Reports that a file that was named on the command line can't be read.
    fn file_unreadable(&mut self, path: &Path, message: &str) {
        let file = path.display().to_string();
        // Standard error may be closed; the exit code still reports it.
        let _ = writeln!(anstream::stderr(), "error: {file}: {message}");
        self.report.files.push(FileReport {
            file,
            api: None,
            verdict: FileVerdict::Invalid,
            statements: None,
            meaning: None,
            problems: vec![ProblemView::unreadable(message.to_owned())],
        });
    }

    fn exit(&self, is_usable: bool) -> Exit {
        if !is_usable {
            Exit::Usage
        } else if self.invalid {
            Exit::InvalidPolicy
        } else if self.unreadable {
            Exit::Failed
        } else if self.refused_partial {
            Exit::PartialPolicy
        } else {
            Exit::Fine
        }
    }
}

/// What neither interface nor service knows of requests, though `policy` asks for it, and how to tell them.
fn missing(policy: &Policy, authorize: &Authorize) -> Vec<String> {
    let is_told = |key: &String| {
        let mut told = authorize.context_headers.keys();
        told.any(|told| told.eq_ignore_ascii_case(key))
    };
    let missing = policy.knowledge().into_iter().filter_map(|knowledge| {
        Some(match knowledge {
            Knowledge::Caller if authorize.principal_header.is_none() => {
                "who calls, so every caller is anonymous (name the header in `principal_header`)"
                    .to_owned()
            }
            Knowledge::Endpoint if authorize.endpoints.is_empty() => {
                "VPC endpoints, so no request comes through one (list them in `endpoints`)"
                    .to_owned()
            }
            Knowledge::Key(key) if !is_told(&key) => {
                format!("`{key}`, so no request has it (name its header in `context_headers`)")
            }
            Knowledge::Authorizer(authorizer) => {
                format!("what no statement matches, which is left to the {authorizer} authorizer")
            }
            Knowledge::Caller | Knowledge::Endpoint | Knowledge::Key(_) => return None,
        })
    });
    missing.collect()
}

/// Says at the place that names a policy why it can't be read.
fn unreadable(reading: &Reading, api: &ReadApi, error: &io::Error) -> Problem {
    let (path, span) = api.policy.clone();
    let place = reading.source.locate(span.start);
    let policy = api.api.policy.display();
    Problem {
        severity: Severity::Error,
        kind: "unreadable",
        path,
        line: place.line,
        column: place.column,
        span,
        message: format!("can't read the policy `{policy}`: {error}"),
        hint: None,
        statement: None,
    }
}
