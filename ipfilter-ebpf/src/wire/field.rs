//! Where header fields are, and the numbers in them. Offsets and lengths are in bytes.

/// IEEE 802.3 and 802.1Q.
pub mod ethernet {
    /// A header without tags.
    pub const LEN: usize = 14;
    /// Where the Ethertype is, or the first tag.
    pub const ETHERTYPE: usize = 12;
    /// A VLAN tag.
    pub const TAG_LEN: usize = 4;
}

/// IEEE 802 numbers.
pub mod ethertype {
    /// IPv4.
    pub const IPV4: u16 = 0x0800;
    /// IPv6.
    pub const IPV6: u16 = 0x86dd;
    /// A VLAN tag (802.1Q).
    pub const VLAN: u16 = 0x8100;
    /// A service VLAN tag (802.1ad).
    pub const SERVICE_VLAN: u16 = 0x88a8;
}

/// RFC 791, section 3.1.
pub mod ipv4 {
    /// A header without options.
    pub const LEN: usize = 20;
    /// The length of header and data.
    pub const TOTAL_LENGTH: usize = 2;
    /// Flags and the fragment's place.
    pub const FRAGMENT: usize = 6;
    /// The protocol of the data.
    pub const PROTOCOL: usize = 9;
    /// The source address, followed by the destination address.
    pub const SOURCE: usize = 12;
}

/// RFC 8200, section 3.
pub mod ipv6 {
    /// A header without extension headers.
    pub const LEN: usize = 40;
    /// The length of what follows the header.
    pub const PAYLOAD_LENGTH: usize = 4;
    /// The protocol of what follows, or its extension header's.
    pub const NEXT_HEADER: usize = 6;
    /// The source address.
    pub const SOURCE: usize = 8;
    /// The destination address.
    pub const DESTINATION: usize = 24;
}

/// Protocols and IPv6 extension headers, as the IP header before them names them.
pub mod protocol {
    /// IPv6 hop-by-hop options (RFC 8200, section 4.3).
    pub const HOP_BY_HOP: u8 = 0;
    /// ICMP (RFC 792).
    pub const ICMP: u8 = 1;
    /// TCP (RFC 9293).
    pub const TCP: u8 = 6;
    /// UDP (RFC 768).
    pub const UDP: u8 = 17;
    /// IPv6 routing header (RFC 8200, section 4.4).
    pub const ROUTING: u8 = 43;
    /// IPv6 fragment header (RFC 8200, section 4.5).
    pub const FRAGMENT: u8 = 44;
    /// Authentication header (RFC 4302).
    pub const AUTHENTICATION: u8 = 51;
    /// ICMPv6 (RFC 4443).
    pub const ICMPV6: u8 = 58;
    /// IPv6 destination options (RFC 8200, section 4.6).
    pub const DESTINATION_OPTIONS: u8 = 60;
    /// Mobility header (RFC 6275).
    pub const MOBILITY: u8 = 135;
    /// Host Identity Protocol (RFC 7401).
    pub const HOST_IDENTITY: u8 = 139;
    /// Shim6 (RFC 5533).
    pub const SHIM6: u8 = 140;
}

/// RFC 9293, section 3.1.
pub mod tcp {
    /// A header without options.
    pub const LEN: usize = 20;
    /// Where the header's length is, in the high half of a byte.
    pub const OFFSET: usize = 12;
    /// Where the flags are.
    pub const FLAGS: usize = 13;
}
