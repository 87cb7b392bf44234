//! The deny actions that answer.
//!
//! Each is a function of its own rather than inlined, once per family: the path of a packet that is
//! dropped in silence does not carry their code along, each has the whole stack to itself, and the
//! verifier takes each apart once.

use aya_ebpf::helpers::bpf_ktime_get_ns;
use ipfilter_ebpf::{
    abi::{Chunk, REJECT_BURST, Reason, SLOT_SHIFT},
    reply::{
        self, Answer, Data, FrameMut as _, Header, Parties, Responses, Tcp, cookie, prohibited_len,
        write_prohibited, write_tcp,
    },
    verdict::Denied,
    wire::{Family, Protocol},
};

use super::{
    context::{Packet, Scratch},
    maps::{ANSWERING, Answering, NEXT_REJECT, RESPONSES, key, reject_interval},
};

/// A TLS record of type alert, version 3.3, two bytes long: fatal, access_denied (RFC 8446, sections
/// 5.1 and 6). The last byte is not sent.
const ALERT: Chunk = [
    u16::from_ne_bytes([21, 3]),
    u16::from_ne_bytes([3, 0]),
    u16::from_ne_bytes([2, 2]),
    u16::from_ne_bytes([49, 0]),
];
const ALERT_LEN: u16 = 7;
const ALERT_SUM: u16 = reply::sum_words(&ALERT);
const TCP_LEN: usize = 20;

/// Turns a denied packet, `bytes` bytes long, into the answer that is due, if one is. `talks` says
/// that the API's action is to respond, rather than just to reject.
#[inline(always)]
pub fn answer<P: Packet>(packet: &P, denied: &Denied, bytes: u32, talks: bool) -> Reason {
    let segment = &denied.segment;
    let Some(answering) = ANSWERING.get_ptr_mut(0) else {
        return Reason::Unanswered;
    };
    if segment.fragment {
        return Reason::Unanswered;
    }
    // SAFETY: the pointer is to this CPU's own value, and nobody holds a reference to it.
    unsafe {
        *answering = Answering {
            api: denied.api,
            bytes,
            network: denied.network as u32,
            transport: segment.transport as u32,
        };
    }
    match (denied.family, segment.protocol, talks) {
        (Family::V4, Protocol::Tcp, false) => reject::<P, false>(packet),
        (Family::V4, Protocol::Tcp, true) => respond::<P, false>(packet),
        (Family::V4, Protocol::Udp, _) => prohibit::<P, false>(packet),
        (Family::V6, Protocol::Tcp, false) => reject::<P, true>(packet),
        (Family::V6, Protocol::Tcp, true) => respond::<P, true>(packet),
        (Family::V6, Protocol::Udp, _) => prohibit::<P, true>(packet),
    }
}

/// What an answer needs to know of its cause.
struct Cause {
    family: Family,
    now: Answering,
    parties: Parties,
}

impl Cause {
    #[inline(always)]
    fn find<P: Packet>(packet: &P, v6: bool) -> Option<Self> {
        let family = if v6 { Family::V6 } else { Family::V4 };
        // SAFETY: the pointer is to this CPU's own value, which only `answer` writes.
        let now = unsafe { *ANSWERING.get_ptr(0)? };
        let (network, transport) = (now.network as usize, now.transport as usize);
        let parties = Parties::read(&Scratch(packet.buffer()), family, network, transport)?;
        Some(Self {
            family,
            now,
            parties,
        })
    }

    #[inline(always)]
    fn network(&self) -> usize {
        self.now.network as usize
    }

    #[inline(always)]
    fn tcp<P: Packet>(&self, packet: &P) -> Option<Tcp> {
        let transport = self.now.transport as usize;
        Tcp::read(
            &Scratch(packet.buffer()),
            self.family,
            self.network(),
            transport,
        )
    }
}

#[inline(never)]
fn reject<P: Packet, const V6: bool>(packet: &P) -> Reason {
    let Some(cause) = Cause::find(packet, V6) else {
        return Reason::Unanswered;
    };
    let Some(Answer::Reset(header)) = cause.tcp(packet).map(|tcp| reply::reset(&tcp)) else {
        return Reason::Unanswered;
    };
    if !may_reject() {
        return Reason::RejectLimited;
    }
    send(packet, &cause, &header, Reason::Reset)
}

/// The quoted packet must make the answer no longer than the packet itself, which every first
/// packet of HTTP/3 does (RFC 9000, section 14.1).
#[inline(never)]
fn prohibit<P: Packet, const V6: bool>(packet: &P) -> Reason {
    let Some(cause) = Cause::find(packet, V6) else {
        return Reason::Unanswered;
    };
    let (family, network, bytes) = (cause.family, cause.network(), cause.now.bytes);
    let length = prohibited_len(family, network) as u32;
    if cause.now.transport as usize != network + family.header_len() || bytes < length {
        return Reason::Unanswered;
    }
    if !may_reject() {
        return Reason::RejectLimited;
    }
    if !packet.resize(bytes, length) {
        return Reason::NoRoom;
    }
    match write_prohibited(
        &mut Scratch(packet.buffer()),
        network,
        &cause.parties,
        family,
    ) {
        Some(()) => Reason::Prohibited,
        None => Reason::NoRoom,
    }
}

#[inline(never)]
fn respond<P: Packet, const V6: bool>(packet: &P) -> Reason {
    let Some(cause) = Cause::find(packet, V6) else {
        return Reason::Unanswered;
    };
    let (Some(tcp), Some(response)) = (cause.tcp(packet), RESPONSES.get(cause.now.api)) else {
        return Reason::Unanswered;
    };
    let lengths = Responses {
        forbidden: response.forbidden_len,
        head: response.head_len,
        alert: ALERT_LEN,
    };
    match reply::respond(&tcp, cause.family, cookies(&cause.parties), &lengths) {
        Answer::Silence => Reason::Unanswered,
        Answer::Reset(header) => send(packet, &cause, &header, Reason::RespondReset),
        Answer::SynAck(header) => send(packet, &cause, &header, Reason::SynAck),
        Answer::Data(Data::Alert, header) => alert(packet, &cause, &header),
        Answer::Data(Data::Forbidden, header) => {
            let (length, sum) = (response.forbidden_len, response.forbidden_sum);
            copy(packet, &cause, &header, &response.forbidden, length, sum)
        }
        Answer::Data(Data::ForbiddenHead, header) => {
            let (length, sum) = (response.head_len, response.head_sum);
            copy(packet, &cause, &header, &response.head, length, sum)
        }
    }
}

/// The connection's cookies in this time slot and in the one before.
#[inline(always)]
fn cookies(parties: &Parties) -> [u32; 2] {
    // SAFETY: the helper takes no pointers.
    let slot = (unsafe { bpf_ktime_get_ns() } >> SLOT_SHIFT) as u32;
    let before = slot.wrapping_sub(1);
    [
        cookie(key(slot), parties, slot),
        cookie(key(before), parties, before),
    ]
}

/// Makes the packet the headers of an answer with `length` bytes of data, whose sum is `sum`, and
/// says where the data belongs.
#[inline(always)]
fn head<P: Packet>(
    packet: &P,
    cause: &Cause,
    header: &Header,
    length: u16,
    sum: u16,
) -> Option<usize> {
    let network = cause.network();
    let data = network + cause.family.header_len() + TCP_LEN;
    if !packet.resize(cause.now.bytes, data as u32 + u32::from(length)) {
        return None;
    }
    write_tcp(
        &mut Scratch(packet.buffer()),
        network,
        &cause.parties,
        header,
        length,
        sum,
    )?;
    Some(data)
}

#[inline(always)]
fn send<P: Packet>(packet: &P, cause: &Cause, header: &Header, reason: Reason) -> Reason {
    match head(packet, cause, header, 0, 0) {
        Some(_) => reason,
        None => Reason::NoRoom,
    }
}

#[inline(always)]
fn alert<P: Packet>(packet: &P, cause: &Cause, header: &Header) -> Reason {
    match write_alert(packet, cause, header) {
        Some(()) => Reason::TlsAlert,
        None => Reason::NoRoom,
    }
}

#[inline(always)]
fn write_alert<P: Packet>(packet: &P, cause: &Cause, header: &Header) -> Option<()> {
    let data = head(packet, cause, header, ALERT_LEN, ALERT_SUM)?;
    let [a, b, c, last] = ALERT;
    let [last, _] = last.to_ne_bytes();
    let mut buffer = Scratch(packet.buffer());
    buffer.write(data, [a, b, c])?;
    buffer.write_byte(data + 6, last)
}

#[inline(always)]
fn copy<P: Packet, const N: usize>(
    packet: &P,
    cause: &Cause,
    header: &Header,
    chunks: &[Chunk; N],
    length: u16,
    sum: u16,
) -> Reason {
    let Some(data) = head(packet, cause, header, length, sum) else {
        return Reason::NoRoom;
    };
    let mut buffer = Scratch(packet.buffer());
    for (index, chunk) in chunks.iter().enumerate() {
        if index >= usize::from(length) / size_of::<Chunk>() {
            break;
        }
        if buffer
            .write(data + index * size_of::<Chunk>(), *chunk)
            .is_none()
        {
            return Reason::NoRoom;
        }
    }
    Reason::Forbidden
}

/// Whether `reject` may send another answer now: a token bucket per CPU, kept as the time at which
/// it will be full again.
#[inline(always)]
fn may_reject() -> bool {
    let interval = reject_interval();
    let Some(full_at) = NEXT_REJECT.get_ptr_mut(0) else {
        return false;
    };
    // SAFETY: the helper takes no pointers; the pointer is to this CPU's own value.
    let (now, before) = unsafe { (bpf_ktime_get_ns(), *full_at) };
    let base = if before > now { before } else { now };
    if interval == 0 || base - now > REJECT_BURST - interval {
        return false;
    }
    // SAFETY: as above.
    unsafe { *full_at = base + interval };
    true
}
