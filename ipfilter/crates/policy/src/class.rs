//! The two kinds of sources, as API Gateway tells them apart.

use std::net::IpAddr;

use ipnet::IpNet;

use ipfilter_addresses::AddressSet;

/// How a source's address reaches the policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Class {
    /// As `aws:SourceIp`.
    Public,
    /// As `aws:VpcSourceIp`, through a VPC endpoint.
    Vpc,
}

impl Class {
    /// The two.
    pub(crate) const BOTH: [Self; 2] = [Self::Public, Self::Vpc];
}

/// Which addresses are of which class.
#[derive(Clone, Debug)]
pub(crate) struct Classes {
    public: AddressSet,
    vpc: AddressSet,
}

/// The blocks private addresses come from: RFC 1918 section 3 and RFC 4193 section 3.1.
pub const PRIVATE_BLOCKS: [&str; 4] = ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7"];

impl Classes {
    /// `vpc` are the blocks that arrive through a VPC endpoint; `None` means the private ones.
    pub(crate) fn new(vpc: Option<&[IpNet]>) -> Self {
        let vpc: AddressSet = match vpc {
            Some(blocks) => blocks.iter().copied().collect(),
            None => PRIVATE_BLOCKS
                .iter()
                .filter_map(|block| block.parse().ok())
                .collect(),
        };
        Self {
            public: vpc.complement(),
            vpc,
        }
    }

    /// The class of one source.
    pub(crate) fn of(&self, source: IpAddr) -> Class {
        if self.vpc.contains(source) {
            Class::Vpc
        } else {
            Class::Public
        }
    }

    /// All sources of a class.
    pub(crate) fn members(&self, class: Class) -> &AddressSet {
        match class {
            Class::Public => &self.public,
            Class::Vpc => &self.vpc,
        }
    }
}
