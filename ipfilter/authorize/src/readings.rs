//! The ways in which a path can be read.
//!
//! Proxies and the programs behind them differ in what they make of a path: one decodes `%2F`, another
//! resolves `..`, a third drops `;` parameters. Whoever judges one reading only can be passed by a path
//! that the API reads in another way. So a request is judged by every reading of its path: it is allowed
//! only if all of them are.

use std::borrow::Cow;

/// The most readings of one path. A path with more is made to confuse, and is denied.
const MOST: usize = 64;

/// How often a path is percent-decoded: once by the proxy, once by the program behind it.
const MOST_DECODED: u8 = 2;

/// Every reading of `path`, which has no query; the path as it was sent comes first. None if there are
/// too many.
pub(crate) fn readings(path: &str) -> Option<Vec<Cow<'_, str>>> {
    if is_plain(path) {
        return Some(vec![Cow::Borrowed(path)]);
    }
    let mut found: Vec<(Vec<u8>, u8)> = vec![(path.as_bytes().to_vec(), 0)];
    let mut next = 0;
    while let Some((bytes, decoded)) = found.get(next).cloned() {
        next += 1;
        for transform in TRANSFORMS {
            keep(&mut found, transform(&bytes), decoded)?;
        }
        if decoded < MOST_DECODED {
            keep(&mut found, decode(&bytes), decoded + 1)?;
        }
    }
    let mut texts: Vec<Cow<'_, str>> = Vec::with_capacity(found.len());
    for (bytes, _) in found {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if !texts.iter().any(|known| *known == text) {
            texts.push(Cow::Owned(text));
        }
    }
    Some(texts)
}

type Transform = fn(&[u8]) -> Vec<u8>;

/// What a proxy or a program may do with a path, besides decoding it.
const TRANSFORMS: [Transform; 6] = [
    resolve_dots,
    merge_slashes,
    turn_backslashes,
    drop_parameters,
    end_at_nul,
    read_overlong,
];

/// Whether nobody could read `path` in another way.
fn is_plain(path: &str) -> bool {
    let bytes = path.as_bytes();
    let ambiguous = |byte: &u8| matches!(byte, b'%' | b'\\' | b';' | 0) || !byte.is_ascii();
    !bytes.iter().any(ambiguous) && !path.contains("//") && !path.contains("/.")
}

fn keep(found: &mut Vec<(Vec<u8>, u8)>, bytes: Vec<u8>, decoded: u8) -> Option<()> {
    // One that took fewer decodings to reach has more of them left.
    match found.iter_mut().find(|(known, _)| *known == bytes) {
        Some((_, times)) if *times <= decoded => {}
        Some(_) => found.push((bytes, decoded)),
        None => found.push((bytes, decoded)),
    }
    (found.len() <= MOST).then_some(())
}

/// RFC 3986, section 2.1. What is no escape stays as it is.
fn decode(path: &[u8]) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(path.len());
    let mut rest = path;
    while let Some((&byte, after)) = rest.split_first() {
        let escape = match (byte, after) {
            (b'%', [high, low, after @ ..]) => {
                digit(*high).zip(digit(*low)).map(|digits| (digits, after))
            }
            _ => None,
        };
        match escape {
            Some(((high, low), after)) => {
                decoded.push(high << 4 | low);
                rest = after;
            }
            None => {
                decoded.push(byte);
                rest = after;
            }
        }
    }
    decoded
}

fn digit(byte: u8) -> Option<u8> {
    let digit = char::from(byte).to_digit(16)?;
    u8::try_from(digit).ok()
}

/// RFC 3986, section 5.2.4.
fn resolve_dots(path: &[u8]) -> Vec<u8> {
    let segments = path.split(|byte| *byte == b'/');
    let mut kept: Vec<&[u8]> = Vec::new();
    let mut ends_in_folder = false;
    for segment in segments {
        ends_in_folder = matches!(segment, b"." | b"..");
        match segment {
            b"." => {}
            // The empty segment before the first slash stays.
            b".." if kept.len() > 1 => drop(kept.pop()),
            b".." => {}
            _ => kept.push(segment),
        }
    }
    if ends_in_folder {
        kept.push(b"");
    }
    kept.join(&b'/')
}

fn merge_slashes(path: &[u8]) -> Vec<u8> {
    let mut merged: Vec<u8> = Vec::with_capacity(path.len());
    for &byte in path {
        if byte != b'/' || merged.last() != Some(&b'/') {
            merged.push(byte);
        }
    }
    merged
}

fn turn_backslashes(path: &[u8]) -> Vec<u8> {
    let turned = path
        .iter()
        .map(|byte| if *byte == b'\\' { b'/' } else { *byte });
    turned.collect()
}

/// RFC 3986, section 3.3: `/name;v=1` names `name`.
fn drop_parameters(path: &[u8]) -> Vec<u8> {
    let segments = path.split(|byte| *byte == b'/');
    let kept: Vec<&[u8]> = segments
        .map(|segment| {
            segment
                .split(|byte| *byte == b';')
                .next()
                .unwrap_or_default()
        })
        .collect();
    kept.join(&b'/')
}

fn end_at_nul(path: &[u8]) -> Vec<u8> {
    path.split(|byte| *byte == 0)
        .next()
        .unwrap_or_default()
        .to_vec()
}

/// ASCII written in two or three bytes, which RFC 3629, section 3, forbids and careless readers take.
fn read_overlong(path: &[u8]) -> Vec<u8> {
    let mut read = Vec::with_capacity(path.len());
    let mut rest = path;
    loop {
        rest = match rest {
            [] => return read,
            [0xc0 | 0xc1, low @ 0x80..=0xbf, after @ ..] => {
                let high = rest.first().map_or(0, |first| first & 1);
                read.push(high << 6 | (low & 0x3f));
                after
            }
            [0xe0, middle @ (0x80 | 0x81), low @ 0x80..=0xbf, after @ ..] => {
                read.push((middle & 1) << 6 | (low & 0x3f));
                after
            }
            [first, after @ ..] => {
                read.push(*first);
                after
            }
        };
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_plain_path_is_read_in_one_way() {
        for path in ["/", "/pets/7", "/pets/a.b", "", "*", "/a:b@c"] {
            assert_eq!(readings(path).unwrap(), [path]);
        }
    }

    #[test]
    fn every_trick_is_seen_through() {
        for trick in [
            "/admin/users",
            "/pets/../admin/users",
            "/pets/%2e%2e/admin/users",
            "/pets/%252e%252E/admin/users",
            "/pets/..%2fadmin/users",
            "//admin///users",
            "/./admin/./users",
            "/admin;x=1/users",
            "/admin/users;jsessionid=1",
            "\\admin\\users",
            "/%5cadmin%5Cusers",
            "/pets/..;/admin/users",
            "/admin/users%00.png",
            "/%61dmin/users",
            "/%2561dmin/users",
            "/pets/..%c0%afadmin/users",
            "/pets/%c0%ae%c0%ae/admin/users",
            "/pets/%e0%80%ae%e0%80%ae/admin/users",
            "/../../admin/users",
        ] {
            let found = readings(trick).unwrap();
            assert!(
                found.iter().any(|path| path == "/admin/users"),
                "{trick}: {found:?}"
            );
            assert_eq!(found.first().unwrap(), trick);
        }
    }

    #[test]
    fn a_path_made_to_confuse_has_no_readings() {
        let path = "/%252e%255c;a//..\\%00%c0%af".repeat(9);
        assert_eq!(readings(&path), None);
    }

    proptest! {
        #[test]
        fn the_path_as_sent_is_always_among_them(path in r"/[a-c./;%\\25ef]{0,24}") {
            if let Some(found) = readings(&path) {
                prop_assert_eq!(found.first().unwrap(), &path);
                prop_assert!(found.len() <= MOST);
            }
        }
    }
}
