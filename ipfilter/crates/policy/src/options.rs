//! What a policy is judged with, beside its own text.

use std::fmt;

use ipfilter_addresses::AddressSet;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::{
    api::ApiArn,
    class::{Class, Classes},
};

/// What a policy is judged with, beside its own text.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Options {
    /// The API the policy is attached to. Without it the ARNs in the policy must agree on one.
    pub api_arn: Option<ApiArn>,
    /// What authorizes requests beside the policy.
    pub authorizer: Authorizer,
    /// The sources that arrive through a VPC endpoint; `None` means [`crate::PRIVATE_BLOCKS`].
    pub vpc_cidrs: Option<Vec<IpNet>>,
}

impl Options {
    /// The sources that arrive through a VPC endpoint, as `aws:VpcSourceIp`.
    #[must_use]
    pub fn vpc_sources(&self) -> AddressSet {
        let classes = Classes::new(self.vpc_cidrs.as_deref());
        classes.members(Class::Vpc).clone()
    }
}

/// What authorizes requests beside the policy (API Gateway Developer Guide, "How API Gateway resource
/// policies affect authorization workflow").
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Authorizer {
    /// The policy alone: what no statement allows is denied.
    #[default]
    None,
    /// A Cognito user pool: as with none.
    Cognito,
    /// IAM: only an explicit Deny of the policy is final.
    Iam,
    /// A Lambda function: only an explicit Deny of the policy is final.
    Lambda,
}

impl fmt::Display for Authorizer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::None => "none",
            Self::Cognito => "cognito",
            Self::Iam => "iam",
            Self::Lambda => "lambda",
        })
    }
}
