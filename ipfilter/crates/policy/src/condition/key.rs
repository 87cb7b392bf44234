//! Condition keys: which there are, what they hold, and for which sources they are there.
//!
//! The `aws:` keys are those of the IAM User Guide's "AWS global condition context keys"; which of them
//! a request to an API carries follows the API Gateway Developer Guide's "AWS condition keys that can be
//! used in API Gateway resource policies". Names are compared without regard to case.

use super::super::{
    class::Class,
    problem::{Advice, clip, nearest},
};

/// What is known here about a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Meaning {
    /// `aws:SourceIp`: the source of a request that came over the internet.
    SourceIp,
    /// `aws:VpcSourceIp`: the source of a request that came through a VPC endpoint.
    VpcSourceIp,
    /// `aws:CurrentTime`.
    CurrentTime,
    /// `aws:EpochTime`.
    EpochTime,
    /// There exactly for requests through a VPC endpoint; the value is not seen here.
    Endpoint,
    /// There at most for requests through a VPC endpoint; the value is not seen here.
    EndpointDetail,
    /// Nothing, whatever the source.
    Unseen,
}

/// What a key's values are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Holds {
    Address,
    Date,
    Other,
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
    pub(crate) meaning: Meaning,
    pub(crate) holds: Holds,
}

const PLAIN: (Meaning, Holds) = (Meaning::Unseen, Holds::Other);

const KEYS: &[(&str, (Meaning, Holds))] = &[
    ("aws:AssumedRoot", PLAIN),
    ("aws:CalledVia", PLAIN),
    ("aws:CalledViaAWSMCP", PLAIN),
    ("aws:CalledViaFirst", PLAIN),
    ("aws:CalledViaLast", PLAIN),
    ("aws:ChatbotSourceArn", PLAIN),
    ("aws:CurrentTime", (Meaning::CurrentTime, Holds::Date)),
    (
        "aws:Ec2InstanceSourcePrivateIPv4",
        (Meaning::Unseen, Holds::Address),
    ),
    ("aws:Ec2InstanceSourceVpc", PLAIN),
    ("aws:EpochTime", (Meaning::EpochTime, Holds::Date)),
    ("aws:FederatedProvider", PLAIN),
    ("aws:IsMcpServiceAction", PLAIN),
    ("aws:MultiFactorAuthAge", PLAIN),
    ("aws:MultiFactorAuthPresent", PLAIN),
    ("aws:PrincipalAccount", PLAIN),
    ("aws:PrincipalArn", PLAIN),
    ("aws:PrincipalIsAWSService", PLAIN),
    ("aws:PrincipalOrgID", PLAIN),
    ("aws:PrincipalOrgPaths", PLAIN),
    ("aws:PrincipalServiceName", PLAIN),
    ("aws:PrincipalServiceNamesList", PLAIN),
    ("aws:PrincipalType", PLAIN),
    ("aws:Referer", PLAIN),
    ("aws:RequestedRegion", PLAIN),
    ("aws:ResourceAccount", PLAIN),
    ("aws:ResourceOrgID", PLAIN),
    ("aws:ResourceOrgPaths", PLAIN),
    ("aws:SecureTransport", PLAIN),
    ("aws:SignInSessionArn", PLAIN),
    ("aws:SourceAccount", PLAIN),
    ("aws:SourceArn", PLAIN),
    ("aws:SourceIdentity", PLAIN),
    ("aws:SourceIp", (Meaning::SourceIp, Holds::Address)),
    ("aws:SourceOrgID", PLAIN),
    ("aws:SourceOrgPaths", PLAIN),
    ("aws:SourceVpc", (Meaning::Endpoint, Holds::Other)),
    ("aws:SourceVpcArn", (Meaning::EndpointDetail, Holds::Other)),
    ("aws:SourceVpce", (Meaning::Endpoint, Holds::Other)),
    ("aws:TagKeys", PLAIN),
    ("aws:TokenIssueTime", (Meaning::Unseen, Holds::Date)),
    ("aws:UserAgent", PLAIN),
    ("aws:ViaAWSMCPService", PLAIN),
    ("aws:ViaAWSService", PLAIN),
    ("aws:VpcSourceIp", (Meaning::VpcSourceIp, Holds::Address)),
    ("aws:VpceAccount", (Meaning::EndpointDetail, Holds::Other)),
    ("aws:VpceOrgID", (Meaning::EndpointDetail, Holds::Other)),
    ("aws:VpceOrgPaths", (Meaning::EndpointDetail, Holds::Other)),
    ("aws:userid", PLAIN),
    ("aws:username", PLAIN),
];

/// Keys that end in a tag's name.
const TAGS: &[&str] = &["aws:PrincipalTag/", "aws:RequestTag/", "aws:ResourceTag/"];

impl Key {
    /// The key of that name.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let known = KEYS
            .iter()
            .find(|(name, _)| name.eq_ignore_ascii_case(text));
        if let Some(&(name, (meaning, holds))) = known {
            return Some(Self {
                name: name.to_owned(),
                meaning,
                holds,
            });
        }
        let lower = text.to_ascii_lowercase();
        let (service, name) = lower.split_once(':')?;
        let refused = service.is_empty()
            || name.is_empty()
            || (service == "aws" && !is_tag(&lower))
            || is_misspelt_global(service, name)
            || lower.contains(char::is_control);
        (!refused).then_some(Self {
            name: lower,
            meaning: Meaning::Unseen,
            // A service's own key and a tag may hold anything.
            holds: Holds::Other,
        })
    }

    /// Why there is no key of that name, and which may be meant.
    pub(crate) fn explain_unknown(text: &str) -> Advice {
        let advice = Advice::new(format!("unknown condition key `{}`", clip(text)));
        let known = KEYS
            .iter()
            .map(|(name, _)| *name)
            .chain(TAGS.iter().copied());
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

    /// Whether requests from sources of `class` carry the key.
    pub(crate) fn presence(&self, class: Class) -> Presence {
        match (self.meaning, class) {
            (Meaning::CurrentTime | Meaning::EpochTime, _)
            | (Meaning::SourceIp, Class::Public)
            | (Meaning::VpcSourceIp | Meaning::Endpoint, Class::Vpc) => Presence::Present,
            (Meaning::SourceIp, Class::Vpc)
            | (Meaning::VpcSourceIp | Meaning::Endpoint | Meaning::EndpointDetail, Class::Public) => {
                Presence::Absent
            }
            (Meaning::EndpointDetail | Meaning::Unseen, _) => Presence::Unknown,
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
            .any(|(key, _)| key.eq_ignore_ascii_case(&global))
}

fn is_tag(lower: &str) -> bool {
    TAGS.iter()
        .any(|tag| lower.len() > tag.len() && lower.starts_with(&tag.to_ascii_lowercase()))
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
