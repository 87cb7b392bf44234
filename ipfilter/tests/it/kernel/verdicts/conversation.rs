//! Whole conversations with `respond`, and the limit of `reject`.

use std::{net::IpAddr, thread, time::Instant};

use etherparse::TcpHeader;
use ipfilter::{
    kernel::{Action, Kind, Trial},
    plan::{Response, Share},
};
use ipfilter_ebpf::abi::Reason;
use rustix::thread::{CpuSet, sched_getcpu, sched_setaffinity};

use super::{
    ANSWERED, DROP, REJECT, REJECTED, RESPOND,
    answers::{self, Said},
    clients, equivalence, plan,
};
use crate::frames::{self as f, AD, Q, Segment, TCP, flag};

/// A denied client that talks to an API which responds.
struct Client<'a> {
    kind: Kind,
    trial: &'a Trial,
    address: IpAddr,
    tags: &'a [u16],
}

/// What came back: the TCP header and the data.
type Answer = (TcpHeader, Vec<u8>);

impl Client<'_> {
    /// Says it, and expects it to be counted so.
    fn say(&self, segment: &Segment<'_>, reason: Reason) -> Option<Answer> {
        let segment = f::segment(&Segment {
            port: RESPOND,
            ..*segment
        });
        let frame = f::tagged(self.tags, self.address, TCP, &segment);
        let got = equivalence::run(self.kind, self.trial, &frame).expect("a packet");
        assert_eq!((got.api, got.reason), (Some(ANSWERED), reason));
        assert_eq!(got.action, super::action(reason));
        if !reason.is_answer() {
            return None;
        }
        match answers::check(&frame, &got) {
            Said::Tcp(header, data) => Some((*header, data)),
            Said::Prohibited => panic!("not TCP"),
        }
    }

    /// Sends data, after a handshake of its own. Returns the answer and what number it must bear.
    fn ask(&self, data: &[u8], reason: Reason) -> (Answer, u32) {
        let cookie = self.handshake();
        let answer = self.say(&data_of(cookie, data), reason);
        (answer.expect("an answer"), cookie.wrapping_add(1))
    }

    /// Returns the cookie.
    fn handshake(&self) -> u32 {
        let syn = Segment {
            flags: flag::SYN,
            sequence: 100,
            ..Segment::default()
        };
        let (answer, data) = self.say(&syn, Reason::SynAck).expect("an answer");
        assert!(answer.syn && answer.ack && !answer.rst && !answer.fin);
        assert_eq!((answer.acknowledgment_number, data.len()), (101, 0));
        let cookie = answer.sequence_number;
        self.acknowledge(cookie.wrapping_add(1), Reason::Unanswered);
        cookie
    }

    fn acknowledge(&self, acknowledgement: u32, reason: Reason) -> Option<Answer> {
        let segment = Segment {
            flags: flag::ACK,
            sequence: 101,
            acknowledgement,
            ..Segment::default()
        };
        self.say(&segment, reason)
    }
}

fn data_of(cookie: u32, data: &[u8]) -> Segment<'_> {
    Segment {
        flags: flag::ACK,
        sequence: 101,
        acknowledgement: cookie.wrapping_add(1),
        data,
        ..Segment::default()
    }
}

/// Runs `talk` for every program, family and a few ways of tagging.
fn everywhere(talk: impl Fn(&Client<'_>)) {
    let plan = plan(&[]);
    for (kind, trial) in &equivalence::load(&plan) {
        for clients in clients() {
            for tags in [&[][..], &[Q], &[AD, Q, Q, Q]] {
                talk(&Client {
                    kind: *kind,
                    trial,
                    address: clients.bad,
                    tags,
                });
            }
        }
    }
}

#[test]
fn a_request_gets_its_403_and_then_nothing_is_left() {
    everywhere(|client| {
        let request = b"GET /pets HTTP/1.1\r\nHost: api\r\n\r\n";
        let ((answer, data), sequence) = client.ask(request, Reason::Forbidden);
        assert!(answer.fin && answer.ack && answer.psh && !answer.rst && !answer.syn);
        assert_eq!(answer.sequence_number, sequence);
        let text = String::from_utf8(data.clone()).expect("UTF-8");
        let (head, body) = text.split_once("\r\n\r\n").expect("a head");
        assert!(head.starts_with("HTTP/1.1 403 Forbidden\r\n"), "{head}");
        assert!(head.contains("Connection: close"), "{head}");
        assert_eq!(body.as_bytes(), Response::default().body());
        let length = format!("Content-Length: {}", body.len());
        assert!(head.contains(&length), "{head}");
        // The acknowledgement of the answer and of its FIN stays without one.
        let end = sequence
            .wrapping_add(u32::try_from(data.len()).expect("short"))
            .wrapping_add(1);
        client.acknowledge(end, Reason::Unanswered);
        let bye = Segment {
            flags: flag::FIN | flag::ACK,
            sequence: 101,
            acknowledgement: end,
            ..Segment::default()
        };
        let (reset, _) = client.say(&bye, Reason::RespondReset).expect("a reset");
        assert!(reset.rst);
        assert_eq!(reset.sequence_number, end);
        let later = Segment {
            flags: flag::ACK,
            sequence: 101,
            acknowledgement: end,
            data: b"more",
            ..Segment::default()
        };
        let (reset, _) = client.say(&later, Reason::RespondReset).expect("a reset");
        assert!(reset.rst && reset.sequence_number == end);
    });
}

#[test]
fn who_asks_for_the_head_gets_no_body_and_who_speaks_tls_an_alert() {
    everywhere(|client| {
        let ((answer, data), _) = client.ask(b"HEAD / HTTP/1.1\r\n\r\n", Reason::Forbidden);
        let text = String::from_utf8(data).expect("UTF-8");
        assert!(text.starts_with("HTTP/1.1 403 Forbidden\r\n"), "{text}");
        assert!(answer.fin && text.ends_with("\r\n\r\n"), "{text}");
        let hello = [22, 3, 1, 0, 5, 1, 0, 0, 1, 0];
        let ((answer, data), _) = client.ask(&hello, Reason::TlsAlert);
        // RFC 8446, section 6: alert, fatal, access_denied.
        assert!(answer.fin);
        assert_eq!(data, [21, 3, 3, 0, 2, 2, 49]);
    });
}

#[test]
fn without_the_cookie_there_is_a_reset_and_no_data() {
    everywhere(|client| {
        let cookie = client.handshake();
        for wrong in [cookie.wrapping_add(1), cookie ^ 1 << 31, 0] {
            let said = client.say(&data_of(wrong, b"GET / HTTP/1.1"), Reason::RespondReset);
            let (answer, data) = said.expect("a reset");
            assert!(answer.rst && !answer.fin && data.is_empty());
            assert_eq!(answer.sequence_number, wrong.wrapping_add(1));
        }
    });
}

/// The cookie is the connection's own: another client can't use it.
#[test]
fn a_cookie_is_of_no_use_to_another() {
    let plan = plan(&[]);
    let trial = equivalence::load_one(&plan, Kind::Xdp);
    for clients in clients() {
        let client = |address| Client {
            kind: Kind::Xdp,
            trial: &trial,
            address,
            tags: &[],
        };
        let cookie = client(clients.bad).handshake();
        let thief = client(clients.half);
        thief.say(&data_of(cookie, b"GET / HTTP/1.1"), Reason::RespondReset);
        // The cookie itself was good.
        let good = data_of(cookie, b"GET / HTTP/1.1");
        client(clients.bad).say(&good, Reason::Forbidden);
    }
}

/// What would be denied passes, whatever the deny action, and is counted as such.
#[test]
fn a_monitored_api_denies_nobody() {
    let mut plan = plan(&[]);
    for api in &mut plan.apis {
        api.enforce = Share::NONE;
    }
    for kind in Kind::ALL {
        let trial = equivalence::load_one(&plan, kind);
        for clients in clients() {
            for port in [DROP, REJECT, RESPOND] {
                let before = equivalence::counters(&trial);
                let (action, _) = trial
                    .run(&f::syn_frame(clients.bad, port))
                    .expect("it runs");
                let moved = equivalence::moved(&before, &equivalence::counters(&trial));
                let reasons: Vec<_> = moved.iter().map(|count| count.reason).collect();
                assert_eq!(
                    (action, &*reasons),
                    (Action::Pass, &[Reason::WouldDeny][..])
                );
            }
        }
    }
}

/// None at all, for a limit of zero; the burst is that of [`resets_are_limited`].
#[test]
fn answers_of_respond_are_limited() {
    for kind in Kind::ALL {
        let mut plan = plan(&[]);
        plan.respond_rate = 0;
        let trial = equivalence::load_one(&plan, kind);
        let before = equivalence::counters(&trial);
        let frame = f::syn_frame(clients()[0].bad, RESPOND);
        let (action, _) = trial.run(&frame).expect("it runs");
        let moved = equivalence::moved(&before, &equivalence::counters(&trial));
        let reasons: Vec<_> = moved.iter().map(|count| count.reason).collect();
        assert_eq!(
            (action, &*reasons),
            (Action::Drop, &[Reason::RespondLimited][..])
        );
    }
}

/// All at once on one CPU: the bucket holds a second's worth, and is filled at that rate. An XDP test
/// run takes milliseconds, so that a burst there is a smaller one. Both leave a busy machine 19 seconds.
#[test]
fn resets_are_limited() {
    for (kind, rate, burst) in [(Kind::Tc, 100, 2000), (Kind::Xdp, 5, 100)] {
        let mut plan = plan(&[]);
        plan.reject_rate = rate;
        let trial = equivalence::load_one(&plan, kind);
        let frame = f::syn_frame(clients()[0].bad, REJECT);
        let run = || {
            stay_on_one_cpu();
            let start = Instant::now();
            for _ in 0..burst {
                trial.run(&frame).expect("the kernel runs the program");
            }
            start.elapsed()
        };
        let before = equivalence::counters(&trial);
        let took = thread::scope(|scope| scope.spawn(run).join().expect("it runs"));
        let moved = equivalence::moved(&before, &equivalence::counters(&trial));
        let count = |reason| {
            let mut found = moved.iter().filter(|count| count.reason == reason);
            found.next().map_or(0, |count| {
                assert_eq!(count.api, Some(REJECTED));
                count.total.packets
            })
        };
        let (reset, limited) = (count(Reason::Reset), count(Reason::RejectLimited));
        assert_eq!(reset + limited, burst, "{moved:?}");
        let filled = took.as_secs_f64() * f64::from(rate);
        let most = f64::from(rate) + filled + 1.0;
        let range = f64::from(rate)..=most;
        let in_range = range.contains(&(reset as f64));
        assert!(in_range, "{kind:?}: {reset} resets in {took:?}");
        assert!(limited > 0, "{kind:?}: the burst took too long: {took:?}");
    }
}

fn stay_on_one_cpu() {
    let mut cpus = CpuSet::new();
    cpus.set(sched_getcpu());
    sched_setaffinity(None, &cpus).expect("a thread may choose its CPU");
}
