//! Condition keys: one table of which there are, what they hold, and where a request gets them from.
//!
//! The `aws:` keys are those of the IAM User Guide's "AWS global condition context keys"; which of them
//! a request to an API carries, and which need IAM authorization, follows the API Gateway Developer
//! Guide's "AWS condition keys that can be used in API Gateway resource policies". Names are compared
//! without regard to case.

use crate::{
    class::Class,
    text::problem::{Advice, clip, nearest},
};

/// Where the value of a key comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Origin {
    /// The source of a request that arrives this way.
    Source(Class),
    /// The clock, as a date.
    Clock,
    /// The clock, in seconds since 1970.
    Epoch,
    /// The VPC that a private request comes from.
    Vpc,
    /// The VPC endpoint that a private request comes through.
    Endpoint,
    /// A header of the request.
    Header(&'static str),
    /// Whether the request is encrypted.
    Secure,
    /// Who makes the request.
    Caller(CallerPart),
    /// Whoever authenticated the caller; only requests through a VPC endpoint carry it.
    PrivateContext,
    /// Whoever authenticated the caller.
    Context,
}

/// What a key holds of the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum CallerPart {
    Arn,
    Account,
    Type,
    UserName,
    UserId,
}

/// What a key's values are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Holds {
    Address,
    Date,
    Other,
}

/// What API Gateway says of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Offer {
    /// It is offered with every authorizer.
    Always,
    /// It is there under IAM authorization only.
    Iam,
    /// It is not in API Gateway's list of keys.
    Unlisted,
}

/// Whether a key is there in the requests of a class of sources.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Presence {
    Absent,
    Present,
    Unknown,
}

/// A condition key.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    /// As documented; in lower case where the documentation leaves it open.
    pub(crate) name: String,
    pub(crate) origin: Origin,
    pub(crate) holds: Holds,
    /// Whether a request may carry several values; `None` where the documentation does not say.
    pub(crate) many: Option<bool>,
    pub(crate) offer: Offer,
}

/// A row of the table of keys.
struct Row {
    name: &'static str,
    holds: Holds,
    many: bool,
    origin: Origin,
    offer: Offer,
}

const fn row(name: &'static str, holds: Holds, origin: Origin, offer: Offer) -> Row {
    Row {
        name,
        holds,
        many: false,
        origin,
        offer,
    }
}

/// A key that only whoever authenticated the caller can give, of one value.
const fn given(name: &'static str, offer: Offer) -> Row {
    row(name, Other, Origin::Context, offer)
}

/// Likewise, of several values.
const fn list(name: &'static str, offer: Offer) -> Row {
    Row {
        many: true,
        ..given(name, offer)
    }
}

use Holds::{Address, Date, Other};
use Offer::{Always, Iam, Unlisted};

const KEYS: &[Row] = &[
    given("aws:AssumedRoot", Unlisted),
    list("aws:CalledVia", Unlisted),
    given("aws:CalledViaAWSMCP", Unlisted),
    given("aws:CalledViaFirst", Unlisted),
    given("aws:CalledViaLast", Unlisted),
    given("aws:ChatbotSourceArn", Unlisted),
    row("aws:CurrentTime", Date, Origin::Clock, Always),
    row(
        "aws:Ec2InstanceSourcePrivateIPv4",
        Address,
        Origin::Context,
        Unlisted,
    ),
    given("aws:Ec2InstanceSourceVpc", Unlisted),
    row("aws:EpochTime", Date, Origin::Epoch, Always),
    given("aws:FederatedProvider", Unlisted),
    given("aws:IsMcpServiceAction", Unlisted),
    given("aws:MultiFactorAuthAge", Iam),
    given("aws:MultiFactorAuthPresent", Iam),
    row(
        "aws:PrincipalAccount",
        Other,
        Origin::Caller(CallerPart::Account),
        Iam,
    ),
    row(
        "aws:PrincipalArn",
        Other,
        Origin::Caller(CallerPart::Arn),
        Iam,
    ),
    given("aws:PrincipalIsAWSService", Iam),
    given("aws:PrincipalOrgID", Iam),
    list("aws:PrincipalOrgPaths", Iam),
    given("aws:PrincipalServiceName", Iam),
    list("aws:PrincipalServiceNamesList", Iam),
    row(
        "aws:PrincipalType",
        Other,
        Origin::Caller(CallerPart::Type),
        Iam,
    ),
    row("aws:Referer", Other, Origin::Header("referer"), Always),
    given("aws:RequestedRegion", Unlisted),
    given("aws:ResourceAccount", Unlisted),
    given("aws:ResourceOrgID", Unlisted),
    list("aws:ResourceOrgPaths", Unlisted),
    row("aws:SecureTransport", Other, Origin::Secure, Always),
    given("aws:SignInSessionArn", Unlisted),
    given("aws:SourceAccount", Unlisted),
    given("aws:SourceArn", Always),
    given("aws:SourceIdentity", Unlisted),
    row(
        "aws:SourceIp",
        Address,
        Origin::Source(Class::Public),
        Always,
    ),
    given("aws:SourceOrgID", Unlisted),
    list("aws:SourceOrgPaths", Unlisted),
    row("aws:SourceVpc", Other, Origin::Vpc, Always),
    row("aws:SourceVpcArn", Other, Origin::PrivateContext, Unlisted),
    row("aws:SourceVpce", Other, Origin::Endpoint, Always),
    list("aws:TagKeys", Unlisted),
    row("aws:TokenIssueTime", Date, Origin::Context, Iam),
    row("aws:UserAgent", Other, Origin::Header("user-agent"), Always),
    given("aws:ViaAWSMCPService", Unlisted),
    given("aws:ViaAWSService", Unlisted),
    row(
        "aws:VpcSourceIp",
        Address,
        Origin::Source(Class::Vpc),
        Always,
    ),
    row("aws:VpceAccount", Other, Origin::PrivateContext, Unlisted),
    row("aws:VpceOrgID", Other, Origin::PrivateContext, Unlisted),
    Row {
        many: true,
        ..row("aws:VpceOrgPaths", Other, Origin::PrivateContext, Unlisted)
    },
    row("aws:userid", Other, Origin::Caller(CallerPart::UserId), Iam),
    row(
        "aws:username",
        Other,
        Origin::Caller(CallerPart::UserName),
        Iam,
    ),
];

/// Keys that end in a tag's name.
const TAGS: &[(&str, Offer)] = &[
    ("aws:PrincipalTag/", Iam),
    ("aws:RequestTag/", Unlisted),
    ("aws:ResourceTag/", Unlisted),
];

impl Key {
    /// The key of that name.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        if let Some(row) = KEYS.iter().find(|row| row.name.eq_ignore_ascii_case(text)) {
            return Some(Self {
                name: row.name.to_owned(),
                origin: row.origin,
                holds: row.holds,
                many: Some(row.many),
                offer: row.offer,
            });
        }
        let lower = text.to_ascii_lowercase();
        let (service, name) = lower.split_once(':')?;
        let tag = tag(&lower);
        let refused = service.is_empty()
            || name.is_empty()
            || name.starts_with(':')
            || (service == "aws" && tag.is_none())
            || is_misspelt_global(service, name)
            || lower.contains(char::is_control);
        (!refused).then_some(Self {
            name: lower,
            origin: Origin::Context,
            // A service's own key and a tag may hold anything.
            holds: Other,
            many: tag.map(|_| false),
            offer: tag.unwrap_or(Always),
        })
    }

    /// Why there is no key of that name, and which may be meant.
    pub(crate) fn explain_unknown(text: &str) -> Advice {
        let advice = Advice::new(format!("unknown condition key `{}`", clip(text)));
        let known = KEYS.iter().map(|row| row.name);
        let known = known.chain(TAGS.iter().map(|(name, _)| *name));
        let with_prefix = format!("aws:{text}");
        let name = if text.contains(':') {
            text
        } else {
            &with_prefix
        };
        match nearest(name, known) {
            Some(tag) if tag.ends_with('/') => {
                advice.hint(format!("did you mean `{tag}` and the tag's name?"))
            }
            Some(key) => advice.hint(format!("did you mean `{key}`?")),
            None => advice.hint("keys for addresses are `aws:SourceIp` and `aws:VpcSourceIp`"),
        }
    }

    /// Whether the key is of a service's own, about which nothing is known here.
    pub(crate) fn is_foreign(&self) -> bool {
        !self.name.starts_with("aws:")
    }

    /// Whether the key's value is the clock.
    pub(crate) fn is_clock(&self) -> bool {
        matches!(self.origin, Origin::Clock | Origin::Epoch)
    }

    /// Whether a request of `class` carries the key, as far as an interface can know; `iam` says
    /// whether IAM authorizes callers.
    pub(crate) fn presence(&self, class: Class, iam: bool) -> Presence {
        if self.offer == Iam && !iam {
            return Presence::Absent;
        }
        match (self.origin, class) {
            (Origin::Clock | Origin::Epoch, _) | (Origin::Vpc | Origin::Endpoint, Class::Vpc) => {
                Presence::Present
            }
            (Origin::Source(of), class) if of == class => Presence::Present,
            (Origin::Source(_), _)
            | (Origin::Vpc | Origin::Endpoint | Origin::PrivateContext, Class::Public) => {
                Presence::Absent
            }
            _ => Presence::Unknown,
        }
    }
}

/// Whether the name is a global key's and the service nearly `aws`: taken as a service's own key it
/// would be a maybe, and let everyone pass.
fn is_misspelt_global(service: &str, name: &str) -> bool {
    let global = format!("aws:{name}");
    service != "aws"
        && service.len() <= 4
        && strsim::damerau_levenshtein(service, "aws") <= 1
        && KEYS
            .iter()
            .any(|row| row.name.eq_ignore_ascii_case(&global))
}

/// What API Gateway says of the key, if it ends in a tag's name.
fn tag(lower: &str) -> Option<Offer> {
    let named = |tag: &str| lower.len() > tag.len() && lower.starts_with(&tag.to_ascii_lowercase());
    let row = TAGS.iter().find(|(tag, _)| named(tag))?;
    Some(row.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_does_not_matter() {
        assert_eq!(
            Key::parse("AWS:sourceip").unwrap(),
            Key::parse("aws:SourceIp").unwrap()
        );
        assert!(Key::parse("aws:principaltag/Team").is_some());
        assert!(Key::parse("sts:SourceIdentity").unwrap().is_foreign());
        assert!(Key::parse("execute-api:viaDomainArn").unwrap().is_foreign());
    }

    #[test]
    fn unknown_keys_are_refused_with_a_guess() {
        for (name, hint) in [
            ("aws:SourceIpAddress", "`aws:SourceIp`"),
            ("aws:SourceIPs", "`aws:SourceIp`"),
            ("SourceIp", "`aws:SourceIp`"),
            ("aws:VpcSourceIps", "`aws:VpcSourceIp`"),
            ("aws:PrincipalTag/", "tag's name"),
            ("aws:", "aws:SourceIp"),
            (":x", "aws:SourceIp"),
            ("asw:SourceIp", "`aws:SourceIp`"),
            ("a\u{7f}b:SourceIp", "aws:SourceIp"),
        ] {
            assert_eq!(Key::parse(name), None);
            let advice = Key::explain_unknown(name);
            assert!(
                advice.hint.as_ref().unwrap().contains(hint),
                "{name} {advice:?}"
            );
        }
    }
}
