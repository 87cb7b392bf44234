//! What `ipfilter events` prints: the sources of packets that did not get through.

use std::net::{IpAddr, SocketAddr};

use serde::Deserialize;

use super::{Imported, Problems};
use crate::{
    Problem,
    block::{Range, clip, set},
};

#[derive(Deserialize)]
struct Event {
    source: Option<IpAddr>,
}

pub(super) fn is_event(line: &str) -> bool {
    let mut words = line.split_whitespace();
    let stamp = words.next().unwrap_or("");
    let is_time =
        stamp.len() >= 20 && stamp.ends_with('Z') && stamp.as_bytes().get(10) == Some(&b'T');
    is_time && words.any(|word| word == "from")
}

pub(super) fn read(text: &str) -> Result<Imported, Vec<Problem>> {
    let (mut ranges, mut problems) = (Vec::new(), Problems::default());
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        if line.starts_with('{') {
            match serde_json::from_str::<Event>(line) {
                Ok(event) => ranges.extend(event.source),
                Err(error) => {
                    problems.add(number, error.column(), format!("this is no event: {error}"));
                }
            }
            continue;
        }
        let mut words = line
            .split_whitespace()
            .skip_while(|word| *word != "from")
            .skip(1);
        match words.next().map(source) {
            Some(Some(source)) => ranges.push(source),
            Some(None) => problems.add(number, 1, format!("no source is in `{}`", clip(line))),
            // How many more there were.
            None => {}
        }
    }
    problems.or(Imported {
        entries: ranges.len(),
        sources: set(ranges.into_iter().map(|source| Range::of(source.into()))),
    })
}

fn source(word: &str) -> Option<IpAddr> {
    let with_port = word.parse::<SocketAddr>().map(|socket| socket.ip());
    with_port.or_else(|_| word.parse()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_taken_from_text_and_from_json() {
        let text = "2026-11-26T07:58:56.371Z eth0 api respond syn_ack tcp from 203.0.113.10:60890 to port 8080\n\
            {\"time\":\"2026-11-26T07:58:56Z\",\"source\":\"2001:db8::1\",\"port\":80}\n\
            2026-11-26T07:58:57Z 12 more not shown\n";
        assert!(is_event(text.lines().next().unwrap()));
        let imported = read(text).unwrap();
        assert_eq!(imported.entries, 2);
        assert!(imported.sources.contains("203.0.113.10".parse().unwrap()));
        assert!(imported.sources.contains("2001:db8::1".parse().unwrap()));
    }
}
