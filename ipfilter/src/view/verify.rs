//! What `ipfilter verify` prints.

use std::fmt;

use serde::Serialize;

use crate::{
    addresses::words,
    kernel::Dump,
    plan::{Plan, Protocol},
    verify::{Difference, api_of},
};

/// The most differences that are listed; the others are only counted.
const LISTED: usize = 1000;

/// The answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    verdict: &'static str,
    /// SHA-256 of the plan as deployed.
    digest: String,
    interfaces: Vec<InterfaceView>,
    differences: Vec<DifferenceView>,
    /// Differences that are not listed.
    omitted: usize,
    #[serde(skip)]
    apis: usize,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct InterfaceView {
    name: String,
    mode: &'static str,
    /// SHA-256 of the plan that the program there says it enforces.
    digest: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct DifferenceView {
    /// The interfaces.
    interfaces: Vec<String>,
    api: Option<String>,
    /// The sources that are answered otherwise, as a CIDR; none where it is about something else.
    source: Option<String>,
    /// What it is about, if not sources.
    what: Option<String>,
    policy: String,
    table: String,
}

impl Report {
    /// The report on what was found where a plan was deployed.
    pub(crate) fn new(plan: &Plan, found: &[(Dump, Vec<Difference>)], missing: &[String]) -> Self {
        let interfaces = found.iter().flat_map(|(dump, _)| {
            dump.attached.iter().map(|(interface, hook)| InterfaceView {
                name: interface.name.clone(),
                mode: hook.name(),
                digest: hex(dump.digest()),
            })
        });
        let differences = found.iter().flat_map(|(dump, differences)| {
            differences
                .iter()
                .map(|difference| DifferenceView::new(plan, dump, difference))
        });
        let missing = missing.iter().map(|name| DifferenceView {
            interfaces: vec![name.clone()],
            what: Some("filter".to_owned()),
            policy: "attached".to_owned(),
            table: "none is attached".to_owned(),
            api: None,
            source: None,
        });
        let mut differences: Vec<_> = missing.chain(differences).collect();
        let omitted = differences.len().saturating_sub(LISTED);
        let verdict = if differences.is_empty() {
            "equal"
        } else {
            "different"
        };
        differences.truncate(LISTED);
        Self {
            verdict,
            digest: plan.digest().to_string(),
            interfaces: interfaces.collect(),
            differences,
            omitted,
            apis: plan.apis.len(),
        }
    }

    /// How many differences there are.
    pub(crate) fn count(&self) -> usize {
        self.differences.len() + self.omitted
    }
}

impl DifferenceView {
    fn new(plan: &Plan, dump: &Dump, difference: &Difference) -> Self {
        let mut view = Self {
            interfaces: dump
                .attached
                .iter()
                .map(|(interface, _)| interface.name.clone())
                .collect(),
            api: None,
            source: None,
            what: None,
            policy: String::new(),
            table: String::new(),
        };
        let (what, policy, table) = match difference {
            Difference::Sources {
                api,
                sources,
                allowed,
            } => {
                let words = |passes| if passes { "allow" } else { "deny" };
                view.api = plan.apis.get(*api).map(|api| api.name.clone());
                view.source = Some(sources.to_string());
                view.policy = words(*allowed).to_owned();
                view.table = words(!*allowed).to_owned();
                return view;
            }
            Difference::Plan { found } => {
                ("plan".to_owned(), plan.digest().to_string(), hex(*found))
            }
            Difference::Malformed { family, error } => (
                format!("{family} table"),
                "a table".to_owned(),
                format!("malformed: {error}"),
            ),
            Difference::Port {
                protocol,
                port,
                wanted,
                found,
            } => return view.of_port(plan, (*protocol, *port), *wanted, *found),
            Difference::Address { address, protected } => {
                let words = |protected| {
                    if protected {
                        "protected"
                    } else {
                        "not protected"
                    }
                };
                (
                    format!("destination {address}"),
                    words(*protected).to_owned(),
                    words(!*protected).to_owned(),
                )
            }
            Difference::Constant(constant) => (
                constant.name.clone(),
                constant.wanted.clone(),
                constant.found.clone(),
            ),
            Difference::Unfrozen(table) => (
                format!("table {table}"),
                "frozen".to_owned(),
                "can be written to".to_owned(),
            ),
        };
        Self {
            what: Some(what),
            policy,
            table,
            ..view
        }
    }

    fn of_port(
        self,
        plan: &Plan,
        (protocol, port): (Protocol, u16),
        wanted: u8,
        found: u8,
    ) -> Self {
        let name = |entry| match api_of(entry) {
            None => "no API's".to_owned(),
            Some(index) => plan
                .apis
                .get(index)
                .map_or_else(|| format!("API #{index}"), |api| api.name.clone()),
        };
        let (mut policy, mut table) = (name(wanted), name(found));
        if policy == table {
            // What else is in an entry.
            (policy, table) = (format!("{policy} ({wanted})"), format!("{table} ({found})"));
        }
        Self {
            what: Some(format!("{protocol} port {port}")),
            policy,
            table,
            ..self
        }
    }
}

fn hex(digest: [u8; 32]) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for interface in &self.interfaces {
            writeln!(f, "interface   {} ({})", interface.name, interface.mode)?;
        }
        writeln!(f, "plan        {}", self.digest)?;
        if self.differences.is_empty() {
            return writeln!(
                f,
                "equal       for every IPv4 and IPv6 source and every port, the tables in the kernel are \
                 what the policy says of {}",
                words::count(self.apis, "API", "APIs")
            );
        }
        writeln!(
            f,
            "different   {}: the filter does not do what the policy says; `ipfilter reload` renews it",
            words::count(self.count(), "difference", "differences")
        )?;
        for difference in &self.differences {
            let DifferenceView {
                interfaces,
                policy,
                table,
                ..
            } = difference;
            let names = [&difference.api, &difference.source, &difference.what];
            let names: Vec<_> = names.into_iter().flatten().map(String::as_str).collect();
            writeln!(
                f,
                "  {}: {}: policy: {policy}, kernel: {table}",
                interfaces.join(", "),
                names.join(" "),
            )?;
        }
        match self.omitted {
            0 => Ok(()),
            omitted => writeln!(f, "  and {}", words::count(omitted, "more", "more")),
        }
    }
}
