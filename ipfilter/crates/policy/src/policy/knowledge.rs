//! What must be known of a request before a policy can decide it.

use std::collections::BTreeSet;

use super::Policy;
use crate::{
    evaluate::{Factor, Rule},
    options::Authorizer,
    syntax::key::{Offer, Origin},
};

/// Something of a request that its source, its line and its headers don't tell by themselves.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Knowledge {
    /// Who makes it: its IAM principal.
    Caller,
    /// The VPC endpoint, or the VPC, that it comes through.
    Endpoint,
    /// The value of this condition key, which whoever authenticates callers gives.
    Key(String),
    /// The answer of this authorizer, where no statement decides.
    Authorizer(Authorizer),
}

impl Policy {
    /// What must be known of requests, besides source, method, path, headers, encryption and time. A key that
    /// no request has under this policy's authorizer is not among it.
    #[must_use]
    pub fn knowledge(&self) -> BTreeSet<Knowledge> {
        let iam = self.authorizer == Authorizer::Iam;
        let factors = self.rules.all.iter().flat_map(Rule::factors);
        let needed = factors.filter_map(|factor| match factor {
            Factor::Principal(principal) => {
                (iam && !principal.is.everyone).then_some(Knowledge::Caller)
            }
            Factor::Condition(condition) => {
                let key = &condition.key;
                if key.offer == Offer::Iam && !iam {
                    return None;
                }
                match key.origin {
                    Origin::Vpc | Origin::Endpoint => Some(Knowledge::Endpoint),
                    Origin::Caller(_) => Some(Knowledge::Caller),
                    Origin::Context | Origin::PrivateContext => {
                        Some(Knowledge::Key(key.name.clone()))
                    }
                    Origin::Source(_)
                    | Origin::Clock
                    | Origin::Epoch
                    | Origin::Header(_)
                    | Origin::Secure => None,
                }
            }
            Factor::Action(_) | Factor::Resource(..) => None,
        });
        let mut needed: BTreeSet<_> = needed.collect();
        if !self.implicit_deny {
            needed.insert(Knowledge::Authorizer(self.authorizer));
        }
        needed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Options, Source, parse};

    #[test]
    fn what_a_request_does_not_tell_by_itself_is_named() {
        let key = |name: &str| Knowledge::Key(name.to_owned());
        let iam = Knowledge::Authorizer(Authorizer::Iam);
        for (principal, condition, authorizer, wanted) in [
            ("\"*\"", "", Authorizer::None, vec![]),
            (
                "\"*\"",
                r#","Condition":{"StringEquals":{"aws:Referer":"a"},"Bool":{"aws:SecureTransport":"true"}}"#,
                Authorizer::None,
                vec![],
            ),
            (
                "\"*\"",
                r#","Condition":{"StringEquals":{"aws:SourceVpce":"vpce-1"}}"#,
                Authorizer::None,
                vec![Knowledge::Endpoint],
            ),
            (
                "\"*\"",
                r#","Condition":{"StringEquals":{"aws:PrincipalOrgID":"o-1"}}"#,
                Authorizer::Iam,
                vec![key("aws:PrincipalOrgID"), iam.clone()],
            ),
            (
                r#"{"AWS":"arn:aws:iam::123456789012:root"}"#,
                "",
                Authorizer::Iam,
                vec![Knowledge::Caller, iam],
            ),
        ] {
            let text = format!(
                r#"{{"Version":"2012-10-17","Statement":{{"Effect":"Allow","Principal":{principal},
                   "Action":"execute-api:Invoke","Resource":"execute-api:/*"{condition}}}}}"#
            );
            let options = Options {
                authorizer,
                ..Options::default()
            };
            let parsed = parse(&Source::new("p", text.as_str()), &options);
            let policy = parsed.policy.unwrap();
            let knowledge: Vec<_> = policy.knowledge().into_iter().collect();
            assert_eq!(knowledge, wanted, "{text}");
        }
    }
}
