//! Why a packet passed or not.
//!
//! The table at the end is the only list of reasons. The enum, the layout of the counters and the labels
//! of status, events and metrics derive from it, so a new reason is one line there.

/// What the filter did with a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Outcome {
    /// Handed it to the host.
    Pass,
    /// Discarded it without an answer.
    Drop,
    /// Answered that nobody is there: TCP reset or ICMP.
    Reject,
    /// Answered with a step of the `respond` conversation.
    Respond,
}

impl Outcome {
    /// The name in every output.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Drop => "drop",
            Self::Reject => "reject",
            Self::Respond => "respond",
        }
    }
}

/// What a reason's packets are counted under.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scope {
    /// The host: they reached no API's port, or none was found.
    Host,
    /// The API they went to.
    Api,
}

/// Declares [`Reason`] and what is known of each one.
macro_rules! reasons {
    ($($variant:ident = $number:literal, $name:literal, $outcome:ident, $scope:ident, $description:literal;)+) => {
        /// Why a packet passed or not: every packet has exactly one.
        #[repr(u32)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Reason {
            $(#[doc = $description] $variant = $number,)+
        }

        impl Reason {
            /// All of them, in the order of their numbers.
            pub const ALL: [Self; [$($number),+].len()] = [$(Self::$variant),+];

            /// The name in every output; together with the [outcome](Self::outcome) it is unique.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }

            /// What the filter did with the packet.
            #[must_use]
            pub const fn outcome(self) -> Outcome {
                match self { $(Self::$variant => Outcome::$outcome,)+ }
            }

            /// What the packet is counted under.
            #[must_use]
            pub const fn scope(self) -> Scope {
                match self { $(Self::$variant => Scope::$scope,)+ }
            }

            /// One sentence about it, for documentation.
            #[must_use]
            pub const fn description(self) -> &'static str {
                match self { $(Self::$variant => $description,)+ }
            }
        }
    };
}

impl Reason {
    /// The reason with this number, if there is one.
    #[must_use]
    pub fn from_number(number: u32) -> Option<Self> {
        Self::ALL.get(usize::try_from(number).ok()?).copied()
    }

    /// Whether the reason with this number might have been another one, had more of the packet been in
    /// sight.
    #[must_use]
    #[inline(always)]
    pub const fn needs_pull(number: u32) -> bool {
        NEED_PULL >> number & 1 == 1
    }

    /// Whether the packet was turned into an answer. A shift rather than a table lookup, since BPF
    /// programs ask.
    #[must_use]
    #[inline(always)]
    pub const fn is_answer(self) -> bool {
        ANSWERS >> self as u32 & 1 == 1
    }
}

/// Bit `n` for the reason with number `n` that is an answer.
const ANSWERS: u32 = {
    let mut bits = 0;
    let mut rest: &[Reason] = &Reason::ALL;
    while let [reason, others @ ..] = rest {
        if matches!(reason.outcome(), Outcome::Reject | Outcome::Respond) {
            bits |= 1 << *reason as u32;
        }
        rest = others;
    }
    bits
};

/// The same of those that might have been another one, had more of the packet been in sight.
const NEED_PULL: u32 = 1 << Reason::Malformed as u32
    | 1 << Reason::Unresolved as u32
    | 1 << Reason::UnresolvedAllowed as u32;

/// Counters in a [`super::Row`]: more than there are reasons.
pub const REASONS: usize = 32;

// The numbers are the counters' indices, and two reasons can't share a pair of labels.
const _: () = {
    assert!(Reason::ALL.len() <= REASONS && REASONS.is_power_of_two());
    let mut number = 0;
    let mut rest: &[Reason] = &Reason::ALL;
    while let [reason, others @ ..] = rest {
        assert!(
            *reason as usize == number,
            "reasons are in the order of their numbers"
        );
        let mut later = others;
        while let [other, after @ ..] = later {
            assert!(
                reason.outcome() as u32 != other.outcome() as u32
                    || !equal(reason.name().as_bytes(), other.name().as_bytes()),
                "two reasons have the same outcome and name"
            );
            later = after;
        }
        number += 1;
        rest = others;
    }
};

const fn equal(mut a: &[u8], mut b: &[u8]) -> bool {
    while let ([first, rest @ ..], [other, others @ ..]) = (a, b) {
        if *first != *other {
            return false;
        }
        (a, b) = (rest, others);
    }
    a.is_empty() && b.is_empty()
}

reasons! {
    NotIp = 0, "not_ip", Pass, Host, "Neither IPv4 nor IPv6.";
    LaterFragment = 1, "later_fragment", Pass, Host, "A fragment other than the first, which has no ports.";
    OtherProtocol = 2, "other_protocol", Pass, Host, "A protocol without ports, or UDP where no API takes it.";
    OtherPort = 3, "other_port", Pass, Host, "The port belongs to no API.";
    OtherAddress = 4, "other_address", Pass, Host, "The destination is not a protected address.";
    UnresolvedAllowed = 5, "unresolved_allowed", Pass, Host, "No port was found, but the source may call every API.";
    Allowed = 6, "allowed", Pass, Api, "The source may call the API.";
    Malformed = 7, "malformed", Drop, Host, "An IP, TCP or UDP header that is impossible or cut off.";
    Unresolved = 8, "unresolved", Drop, Host, "No port was found, and the source may not call every API.";
    Denied = 9, "denied", Drop, Api, "The source may not call the API.";
    Reset = 10, "reset", Reject, Api, "Denied; answered with a TCP reset.";
    Prohibited = 11, "prohibited", Reject, Api, "Denied; answered with ICMP \"administratively prohibited\".";
    RejectLimited = 12, "reject_limited", Drop, Api, "Denied; the limit of `reject`'s answers was reached.";
    Unanswered = 13, "unanswered", Drop, Api, "Denied; such a packet is never answered.";
    SynAck = 14, "syn_ack", Respond, Api, "Denied; answered with a SYN-ACK that carries a cookie.";
    Forbidden = 15, "forbidden", Respond, Api, "Denied; answered with HTTP 403.";
    TlsAlert = 16, "tls_alert", Respond, Api, "Denied; answered with a TLS alert.";
    RespondReset = 17, "reset", Respond, Api, "Denied; answered with a TCP reset, since it belongs to no conversation.";
    NoRoom = 18, "no_room", Drop, Api, "Denied; the packet's buffer has no room for the answer.";
    WouldDeny = 19, "would_deny", Pass, Api, "The source may not call the API, which does not deny it: it is monitored, or enforced for a share of sources.";
    RespondLimited = 20, "respond_limited", Drop, Api, "Denied; the limit of `respond`'s answers was reached.";
}
