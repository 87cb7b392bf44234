//! The policies in force, and what they say of a request.

use std::{borrow::Cow, collections::BTreeMap, net::IpAddr};

use ipfilter_config::{Authorize, Stage};
use ipfilter_overrides::Override;
use ipfilter_policy::{ApiArn, Context, Decision, Effect, Explanation, Policy, Request, Verdict};
use ipnet::IpNet;
use jiff::Timestamp;

use crate::{
    client::Trusted,
    overruled::Overruled,
    question::{Headers, Question},
    readings::readings,
    refusal::Refusal,
};

/// Headers that policies may ask about.
const POLICY_HEADERS: [&str; 2] = ["user-agent", "referer"];

/// One API and its policy.
#[derive(Debug)]
pub(crate) struct Api {
    pub(crate) name: String,
    /// The names that requests for it are sent to, in lower case.
    pub(crate) hosts: Vec<String>,
    pub(crate) policy: Policy,
    pub(crate) arn: Option<ApiArn>,
}

/// A range of sources that come through a VPC endpoint.
#[derive(Debug)]
struct Endpoint {
    sources: IpNet,
    id: String,
    vpc: Option<String>,
}

/// Everything that decides, as it was last read.
#[derive(Debug)]
pub(crate) struct Service {
    pub(crate) apis: Vec<Api>,
    pub(crate) trusted: Trusted,
    stage: Stage,
    /// The longest prefix first.
    endpoints: Vec<Endpoint>,
    principal_header: Option<String>,
    /// Headers in lower case, by condition key.
    context_headers: BTreeMap<String, String>,
    /// The settings that it was made from.
    pub(crate) authorize: Authorize,
    /// SHA-256 of all that was read, in hexadecimal.
    pub(crate) digest: String,
}

/// What becomes of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) api: usize,
    pub(crate) allowed: bool,
    /// Whether a Deny says so, or for an allowed request an Allow.
    pub(crate) explicit: bool,
    /// What decides.
    pub(crate) by: By,
    /// What a denied request asked for: stage, method and path in the reading that decided.
    pub(crate) call: String,
}

/// What decides a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum By {
    /// The statement with this index.
    Statement(usize),
    /// That no statement matches.
    Nothing,
    /// An override of the filter's operator.
    Override(ipfilter_overrides::Effect),
}

impl By {
    /// What counters and logs call it: a statement by its `Sid`, or else its index.
    pub(crate) fn name<'p>(self, policy: &'p Policy) -> Cow<'p, str> {
        match self {
            Self::Statement(index) => match policy.sid(index) {
                Some(sid) => Cow::Borrowed(sid),
                None => Cow::Owned(index.to_string()),
            },
            Self::Nothing => Cow::Borrowed("none"),
            Self::Override(effect) => Cow::Owned(format!("override {effect}")),
        }
    }
}

impl Outcome {
    /// Why a request was denied, for events and logs.
    pub(crate) fn reason(&self) -> &'static str {
        match (self.by, self.explicit) {
            (By::Override(_), _) => "override",
            (_, true) => "explicit_deny",
            (_, false) => "implicit_deny",
        }
    }
}

impl Service {
    pub(crate) fn new(apis: Vec<Api>, config: &Authorize, digest: String) -> Self {
        let mut endpoints: Vec<Endpoint> = Vec::new();
        for (id, endpoint) in &config.endpoints {
            endpoints.extend(endpoint.sources.iter().map(|sources| Endpoint {
                sources: *sources,
                id: id.clone(),
                vpc: endpoint.vpc.clone(),
            }));
        }
        endpoints.sort_by_key(|endpoint| std::cmp::Reverse(endpoint.sources.prefix_len()));
        let context_headers = config.context_headers.iter();
        Self {
            apis,
            trusted: Trusted::new(config.trusted_proxies.iter().copied()),
            stage: config.stage.clone(),
            endpoints,
            principal_header: config
                .principal_header
                .as_ref()
                .map(|name| name.to_ascii_lowercase()),
            context_headers: context_headers
                .map(|(key, header)| (key.clone(), header.to_ascii_lowercase()))
                .collect(),
            authorize: config.clone(),
            digest,
        }
    }

    /// One that denies every request.
    pub(crate) fn closed(digest: String) -> Self {
        let nowhere = Authorize {
            listen: ipfilter_config::Endpoint::Unix("".into()),
            trusted_proxies: Vec::new(),
            stage: Stage::FromPath,
            endpoints: BTreeMap::new(),
            principal_header: None,
            context_headers: BTreeMap::new(),
            user: ipfilter_config::User::default(),
        };
        Self::new(Vec::new(), &nowhere, digest)
    }

    /// What the policy of the API that `question` is for says of it, unless an override of its client says
    /// otherwise. A Deny of one reading of the path denies; an Allow must be that of all.
    pub(crate) fn decide(
        &self,
        question: &Question<'_>,
        headers: &impl Headers,
        overruled: &Overruled,
        now: Timestamp,
    ) -> Result<Outcome, Refusal> {
        let index = self.api(question)?;
        let api = self.apis.get(index).ok_or(Refusal::Api)?;
        if let Some(one) = overruled.decide(&api.name, question.client, now) {
            return Ok(self.overruled(index, one, question));
        }
        let mut request = self.request(question, headers, now)?;
        let mut allowed = None;
        for path in readings(question.path).ok_or(Refusal::Path)? {
            let (stage, path) = self.stage(&path);
            request.stage = stage.into_owned();
            request.path = path.into_owned();
            let explanation = api.policy.decide(&request);
            let mut outcome = Outcome {
                api: index,
                allowed: passes(&explanation),
                explicit: explanation.explicit,
                by: deciding(&explanation),
                call: String::new(),
            };
            if !outcome.allowed {
                outcome.call = call(&request.stage, &request.method, &request.path);
                return Ok(outcome);
            }
            allowed = allowed.or(Some(outcome));
        }
        allowed.ok_or(Refusal::Path)
    }

    fn overruled(&self, api: usize, by: &Override, question: &Question<'_>) -> Outcome {
        let (stage, path) = self.stage(question.path);
        Outcome {
            api,
            allowed: by.rule.effect == ipfilter_overrides::Effect::Allow,
            explicit: true,
            by: By::Override(by.rule.effect),
            call: call(&stage, question.method, &path),
        }
    }

    /// Which API a question is for: the one that the proxy names, that of the host, or the only one.
    fn api(&self, question: &Question<'_>) -> Result<usize, Refusal> {
        if let [_] = self.apis.as_slice() {
            return Ok(0);
        }
        let named = |name: &str| self.apis.iter().position(|api| api.name == name);
        let hosted = |host: &str| {
            let is_it = |own: &String| own.eq_ignore_ascii_case(host);
            self.apis.iter().position(|api| api.hosts.iter().any(is_it))
        };
        let by_name = question.api.and_then(named);
        by_name
            .or_else(|| question.host.and_then(hosted))
            .ok_or(Refusal::Api)
    }

    fn request(
        &self,
        question: &Question<'_>,
        headers: &impl Headers,
        now: Timestamp,
    ) -> Result<Request, Refusal> {
        let mut request = Request::new(question.client, question.method);
        request.secure = Some(question.secure);
        request.time = Some(now);
        for name in POLICY_HEADERS {
            match headers
                .all(name)
                .ok_or(Refusal::Unreadable("user-agent or referer"))?
                .as_slice()
            {
                [] => {}
                [value] => drop(request.headers.insert(name.to_owned(), (*value).to_owned())),
                _ => return Err(Refusal::Repeated("user-agent or referer")),
            }
        }
        if let Some(header) = &self.principal_header {
            match headers
                .all(header)
                .ok_or(Refusal::Unreadable("principal_header"))?
                .as_slice()
            {
                [] | [""] => {}
                [principal] => request.principal = Some((*principal).to_owned()),
                _ => return Err(Refusal::Repeated("principal_header")),
            }
        }
        request.context = self.context(headers)?;
        if let Some(endpoint) = self.endpoint(question.client) {
            request.vpce = Some(endpoint.id.clone());
            request.vpc.clone_from(&endpoint.vpc);
        }
        Ok(request)
    }

    /// Condition keys that trusted proxies give; a header that is not there is a key that is absent.
    fn context(&self, headers: &impl Headers) -> Result<Context, Refusal> {
        let mut context = Context::default();
        for (key, header) in &self.context_headers {
            let values = headers
                .all(header)
                .ok_or(Refusal::Unreadable("context_headers"))?;
            if !values.is_empty() {
                context.set(key, values.into_iter().map(str::to_owned).collect());
            }
        }
        Ok(context)
    }

    fn endpoint(&self, client: IpAddr) -> Option<&Endpoint> {
        self.endpoints
            .iter()
            .find(|endpoint| endpoint.sources.contains(&client))
    }

    /// The stage and the path within it.
    fn stage<'p>(&'p self, path: &'p str) -> (Cow<'p, str>, Cow<'p, str>) {
        match &self.stage {
            Stage::Named(stage) => (Cow::Borrowed(stage), Cow::Borrowed(path)),
            Stage::FromPath => {
                let within = path.strip_prefix('/').unwrap_or(path);
                let (stage, rest) = within.split_once('/').unwrap_or((within, ""));
                (Cow::Borrowed(stage), Cow::Owned(format!("/{rest}")))
            }
        }
    }
}

/// What is asked for, as ARNs name it.
fn call(stage: &str, method: &str, path: &str) -> String {
    let slash = if path.starts_with('/') { "" } else { "/" };
    format!("{stage}/{method}{slash}{path}")
}

/// Whether a request may go on. Where the policy leaves it to an authorizer it may; where what the policy
/// means is not certain it may not.
fn passes(explanation: &Explanation<'_>) -> bool {
    match explanation.decision {
        Decision::Allow => true,
        Decision::Deny => false,
        Decision::Depends => {
            let uncertain = |matches| matches == Verdict::Maybe;
            let mut statements = explanation.statements.iter();
            !explanation.implicit_deny && !statements.any(|one| uncertain(one.matches))
        }
    }
}

/// What decides: the first statement that matches with the effect that prevails.
fn deciding(explanation: &Explanation<'_>) -> By {
    let effect = match explanation.decision {
        Decision::Allow => Effect::Allow,
        Decision::Deny | Decision::Depends => Effect::Deny,
    };
    let mut statements = explanation.statements.iter();
    let deciding = statements.find(|one| one.effect == effect && one.matches == Verdict::Yes);
    deciding.map_or(By::Nothing, |one| By::Statement(one.index))
}
