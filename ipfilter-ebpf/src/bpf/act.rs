//! The deny actions that answer.
//!
//! Each is a function of its own rather than inlined, once per family: the path of a packet that is
//! dropped in silence does not carry their code along, each has the whole stack to itself, and the
//! verifier takes each apart once.

use aya_ebpf::helpers::bpf_ktime_get_ns;
use ipfilter_ebpf::{
    abi::{ANSWER_BURST, Chunk, PayloadSlice, RESPONSE_CHUNKS, Reason, Response, SLOT_SHIFT},
    reply::{
        self, Answer, Data, FrameMut as _, Header, Parties, Responses, Tcp, cookie, prohibited_len,
        write_prohibited, write_tcp,
    },
    wire::{
        Family,
        field::{self, protocol},
    },
};

use super::{
    context::{Packet, Scratch, optimizer_barrier, verifier_barrier},
    maps::{FULL_AT, RESPONSES, Subject, config, key, subject},
};

/// The most bytes of a TCP segment that an answer depends on: the longest header (RFC 9293, section
/// 3.1), and the beginning of the data.
const TCP_SEEN: u32 = 60 + 4;

/// Turns the packet that is this CPU's [`Subject`] into the answer that is due, if one is. `talks` says that
/// the API's action is to respond, rather than just to reject.
#[inline(always)]
pub fn answer<P: Packet>(packet: P, subject: &Subject, talks: bool) -> Reason {
    if subject.fragment != 0 {
        return Reason::Unanswered;
    }
    match (subject.family, subject.protocol as u8, talks) {
        (4, protocol::TCP, false) => reject::<P, false>(packet),
        (4, protocol::TCP, true) => respond::<P, false>(packet),
        (4, ..) => prohibit::<P, false>(packet),
        (_, protocol::TCP, false) => reject::<P, true>(packet),
        (_, protocol::TCP, true) => respond::<P, true>(packet),
        _ => prohibit::<P, true>(packet),
    }
}

/// What an answer needs to know of its cause.
struct Cause {
    family: Family,
    now: Subject,
    parties: Parties,
}

impl Cause {
    #[inline(always)]
    fn find<P: Packet>(packet: P, v6: bool) -> Option<Self> {
        let family = if v6 { Family::V6 } else { Family::V4 };
        // SAFETY: it is copied.
        let now = *unsafe { subject() }?;
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
    fn tcp<P: Packet>(&self, packet: P) -> Option<Tcp> {
        let places = (self.network(), self.now.transport as usize);
        let length = self.now.bytes as usize;
        Tcp::read(&Scratch(packet.buffer()), self.family, places, length)
    }
}

#[inline(never)]
fn reject<P: Packet, const V6: bool>(packet: P) -> Reason {
    let packet = packet.apart();
    let Some(cause) = Cause::find(packet, V6) else {
        return Reason::Unanswered;
    };
    let Some(Answer::Reset(header)) = cause.tcp(packet).map(|tcp| reply::reset(&tcp)) else {
        return Reason::Unanswered;
    };
    if !may_answer(Bucket::Reject) {
        return Reason::RejectLimited;
    }
    match head(packet, &cause, &header, 0, 0) {
        Some(_) => Reason::Reset,
        None => Reason::NoRoom,
    }
}

/// The quoted packet must make the answer no longer than the packet itself, which every first
/// packet of HTTP/3 does (RFC 9000, section 14.1).
#[inline(never)]
fn prohibit<P: Packet, const V6: bool>(packet: P) -> Reason {
    let packet = packet.apart();
    let Some(cause) = Cause::find(packet, V6) else {
        return Reason::Unanswered;
    };
    let (family, network, bytes) = (cause.family, cause.network(), cause.now.bytes);
    let length = prohibited_len(family, network) as u32;
    if cause.now.transport as usize != network + family.header_len() || bytes < length {
        return Reason::Unanswered;
    }
    if !may_answer(Bucket::Reject) {
        return Reason::RejectLimited;
    }
    if packet.resize(bytes, length).is_none() {
        return Reason::NoRoom;
    }
    match write_prohibited(&mut Scratch(packet.buffer()), network, family) {
        Some(()) => Reason::Prohibited,
        None => Reason::NoRoom,
    }
}

#[inline(never)]
fn respond<P: Packet, const V6: bool>(packet: P) -> Reason {
    let packet = packet.apart();
    if pull_segment(packet).is_none() {
        return Reason::NoRoom;
    }
    let Some(cause) = Cause::find(packet, V6) else {
        return Reason::Unanswered;
    };
    let (Some(tcp), Some(response)) = (cause.tcp(packet), RESPONSES.get(cause.now.api)) else {
        return Reason::Unanswered;
    };
    let lengths = Responses {
        forbidden: response.forbidden.len,
        head: response.head.len,
        alert: response.alert.len,
    };
    let nothing = PayloadSlice::default();
    let (header, saying, step) =
        match reply::respond(&tcp, cause.family, cookies(&cause.parties), &lengths) {
            Answer::Silence => return Reason::Unanswered,
            Answer::Reset(header) => (header, nothing, Step::Reset),
            Answer::SynAck(header) => (header, nothing, Step::SynAck),
            Answer::Data(Data::Alert, header) => (header, response.alert, Step::Alert),
            Answer::Data(Data::Forbidden, header) => (header, response.forbidden, Step::Forbidden),
            Answer::Data(Data::ForbiddenHead, header) => (header, response.head, Step::Forbidden),
        };
    if !may_answer(Bucket::Respond) {
        return Reason::RespondLimited;
    }
    // From here on it is written whatever it is, so that the verifier goes through that once.
    let barrier = |value: u32| verifier_barrier(value.into(), cause.now.bytes.into());
    let step = barrier(step as u32);
    let header = Header {
        sequence: barrier(header.sequence) as u32,
        acknowledgement: barrier(header.acknowledgement) as u32,
        flags: barrier(header.flags.into()) as u8,
        window: barrier(header.window.into()) as u16,
    };
    let saying = PayloadSlice {
        start: barrier(saying.start.into()) as u16,
        len: barrier(saying.len.into()) as u16,
        sum: barrier(saying.sum.into()) as u16,
        reserved: 0,
    };
    match say(packet, &cause, &header, response, saying) {
        Some(()) => Step::reason(step),
        None => Reason::NoRoom,
    }
}

/// The steps of the conversation, as numbers that a barrier can take.
#[derive(Clone, Copy)]
enum Step {
    Reset,
    SynAck,
    Alert,
    Forbidden,
}

impl Step {
    /// What a packet that was answered by the step with this number is counted under.
    #[inline(always)]
    fn reason(number: u64) -> Reason {
        match number {
            0 => Reason::RespondReset,
            1 => Reason::SynAck,
            2 => Reason::TlsAlert,
            _ => Reason::Forbidden,
        }
    }
}

/// Brings into sight what of the segment an answer depends on.
#[inline(always)]
fn pull_segment<P: Packet>(packet: P) -> Option<()> {
    // SAFETY: nothing that is called from here asks for it too.
    let now = unsafe { subject() }?;
    packet.pull(now.bytes, now.transport + TCP_SEEN)
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
    packet: P,
    cause: &Cause,
    header: &Header,
    length: u16,
    sum: u16,
) -> Option<usize> {
    let network = cause.network();
    let data = network + cause.family.header_len() + field::tcp::LEN;
    let shift = packet.resize(cause.now.bytes, data as u32 + u32::from(length))?;
    write_tcp(
        &mut Scratch(packet.buffer()),
        (shift as usize, network),
        cause.family,
        cause.parties.ports,
        header,
        (length, sum),
    )?;
    Some(data)
}

/// Makes the packet an answer that says `saying`.
#[inline(always)]
fn say<P: Packet>(
    packet: P,
    cause: &Cause,
    header: &Header,
    response: &Response,
    saying: PayloadSlice,
) -> Option<()> {
    let data = head(packet, cause, header, saying.len, saying.sum)?;
    let whole = usize::from(saying.len) / size_of::<Chunk>();
    let mut buffer = Scratch(packet.buffer());
    for index in 0..RESPONSE_CHUNKS {
        if index >= whole {
            break;
        }
        let place = optimizer_barrier(usize::from(saying.start) + index);
        let chunk = response.chunks.get(place)?;
        buffer.write(data + index * size_of::<Chunk>(), *chunk)?;
    }
    if usize::from(saying.len) == whole * size_of::<Chunk>() {
        return Some(());
    }
    let [a, b, c, last] = *response.chunks.last()?;
    let [last, _] = last.to_ne_bytes();
    buffer.write(data, [a, b, c])?;
    buffer.write_byte(data + 6, last)
}

/// The limits of answers.
#[derive(Clone, Copy)]
enum Bucket {
    Reject,
    Respond,
}

/// Whether another answer may be sent now: a token bucket per CPU, kept as the time at which it will be full
/// again.
#[inline(always)]
fn may_answer(bucket: Bucket) -> bool {
    let interval = match bucket {
        Bucket::Reject => config().reject_interval,
        Bucket::Respond => config().respond_interval,
    };
    let Some(full_at) = FULL_AT.get_ptr_mut(bucket as u32) else {
        return false;
    };
    // SAFETY: the helper takes no pointers; the pointer is to this CPU's own value.
    let (now, before) = unsafe { (bpf_ktime_get_ns(), *full_at) };
    let base = if before > now { before } else { now };
    if interval == 0 || base - now > ANSWER_BURST - interval {
        return false;
    }
    // SAFETY: as above.
    unsafe { *full_at = base + interval };
    true
}
