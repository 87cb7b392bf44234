//! The policy options that several commands share.

use clap::ValueEnum;
use ipnet::IpNet;

use crate::policy::{self, ApiArn};

/// How a policy is to be understood.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Policy options")]
pub struct PolicyOptions {
    /// The API the policy is attached to; without it the ARNs in the policy must agree on one
    #[arg(long, value_name = "ARN")]
    pub api_arn: Option<ApiArn>,

    /// What authorizes requests beside the policy; under `iam` and `lambda` only an explicit Deny is final
    #[arg(long, value_name = "KIND", default_value = "none")]
    pub authorizer: AuthorizerKind,

    /// The sources that arrive as `aws:VpcSourceIp`, in place of the private ranges (repeat or list)
    #[arg(long, value_name = "CIDR", value_delimiter = ',', value_parser = parse_cidr)]
    pub vpc_cidr: Vec<IpNet>,

    /// Accept a policy that an interface can enforce only partly; `check` tells what it leaves to the
    /// API
    #[arg(long)]
    pub allow_partial: bool,
}

/// The choices of `--authorizer`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum AuthorizerKind {
    /// The policy alone
    #[default]
    None,
    /// A Cognito user pool
    Cognito,
    /// IAM
    Iam,
    /// A Lambda function
    Lambda,
}

impl From<&PolicyOptions> for policy::Options {
    fn from(options: &PolicyOptions) -> Self {
        Self {
            api_arn: options.api_arn.clone(),
            authorizer: match options.authorizer {
                AuthorizerKind::None => policy::Authorizer::None,
                AuthorizerKind::Cognito => policy::Authorizer::Cognito,
                AuthorizerKind::Iam => policy::Authorizer::Iam,
                AuthorizerKind::Lambda => policy::Authorizer::Lambda,
            },
            vpc_cidrs: (!options.vpc_cidr.is_empty()).then(|| options.vpc_cidr.clone()),
        }
    }
}

fn parse_cidr(text: &str) -> Result<IpNet, String> {
    policy::parse_block(text)
        .ok_or_else(|| "write a block such as `10.0.0.0/8` or `fc00::/7`".to_owned())
}
