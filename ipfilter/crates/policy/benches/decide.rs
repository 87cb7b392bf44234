//! What a decision costs: `cargo bench -p ipfilter-policy`.
//!
//! Prints nanoseconds for each decision about a request, by policies of ten and of a million CIDR blocks.

use std::{
    fmt::Write as _,
    hint::black_box,
    time::{Duration, Instant},
};

use ipfilter_policy::{Decision, Options, Policy, Request, Source, parse};

fn main() {
    for blocks in [10, 1_000_000] {
        let begun = Instant::now();
        let policy = policy(blocks);
        let read = begun.elapsed();
        let cost = cost(&policy, blocks);
        println!(
            "{blocks} blocks: {} ns a decision, read in {} ms",
            cost.as_nanos(),
            read.as_millis()
        );
    }
}

/// Readers from `blocks` addresses, writers by user agent, no bots, and administration from one network.
fn policy(blocks: u32) -> Policy {
    let mut listed = String::new();
    for block in 0..blocks {
        let [a, b, c, d] = (0x0B00_0000 + block * 3).to_be_bytes();
        let comma = if block == 0 { "" } else { "," };
        write!(listed, "{comma}\"{a}.{b}.{c}.{d}/32\"").expect("strings take all");
    }
    let text = format!(
        r#"{{"Version": "2012-10-17", "Statement": [
        {{"Effect": "Allow", "Principal": "*", "Action": "execute-api:Invoke", "Resource": "execute-api:/prod/GET/*",
          "Condition": {{"IpAddress": {{"aws:SourceIp": [{listed}]}}}}}},
        {{"Effect": "Allow", "Principal": "*", "Action": "execute-api:Invoke", "Resource": "execute-api:/*/POST/*",
          "Condition": {{"StringLike": {{"aws:UserAgent": ["writer/*", "partner/?.*"]}}}}}},
        {{"Effect": "Deny", "Principal": "*", "Action": "execute-api:Invoke", "Resource": "execute-api:/*",
          "Condition": {{"StringLike": {{"aws:UserAgent": "*[Bb]ot*"}}}}}},
        {{"Effect": "Deny", "Principal": "*", "Action": "execute-api:Invoke", "Resource": "execute-api:/*/*/admin/*",
          "Condition": {{"NotIpAddress": {{"aws:SourceIp": "198.51.100.0/24"}}}}}}]}}"#
    );
    let parsed = parse(&Source::new("bench", text), &Options::default());
    parsed.policy.expect("it is legal")
}

/// The time of one decision, without making the request.
fn cost(policy: &Policy, blocks: u32) -> Duration {
    const ROUNDS: u32 = 200_000;
    let requests: Vec<Request> = (0..1024_u32)
        .map(|nth| request(nth * 7919 % blocks.max(1)))
        .collect();
    let mut allowed = 0;
    let begun = Instant::now();
    for request in requests.iter().cycle().take(ROUNDS as usize) {
        let decision = black_box(policy.decide(black_box(request))).decision;
        allowed += u32::from(decision == Decision::Allow);
    }
    let elapsed = begun.elapsed();
    assert_eq!(allowed, ROUNDS, "each of them is allowed");
    elapsed / ROUNDS
}

fn request(block: u32) -> Request {
    let mut request = Request::new((0x0B00_0000 + block * 3).to_be_bytes().into(), "GET");
    request.stage = "prod".to_owned();
    request.path = "/pets/4711/owner?full=true".to_owned();
    request.secure = Some(true);
    let agent = "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0";
    request
        .headers
        .insert("User-Agent".to_owned(), agent.to_owned());
    request
}
