//! Who gets a release first.

use std::collections::BTreeSet;

/// Who gets a release first.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum First {
    /// So many.
    Count(usize),
    /// This share of them, in percent; at least one.
    Share(f64),
    /// These.
    Hosts(Vec<String>),
}

/// Reads `1`, `5%` or `HOST,…`.
pub(crate) fn parse_first(text: &str) -> Result<First, String> {
    let wrong = || {
        format!(
            "`{text}` names no hosts: write a number such as `1`, a share such as `5%`, or hosts, `web-1,web-2`"
        )
    };
    if let Some(share) = text.strip_suffix('%') {
        let share: Option<f64> = share.parse().ok();
        let share = share.filter(|share| *share > 0.0 && *share <= 100.0);
        return share.map(First::Share).ok_or_else(wrong);
    }
    if let Ok(count) = text.parse() {
        return if count == 0 {
            Err(wrong())
        } else {
            Ok(First::Count(count))
        };
    }
    let hosts: Vec<_> = text.split(',').map(str::to_owned).collect();
    if hosts
        .iter()
        .any(|host| host.is_empty() || host.contains(char::is_whitespace))
    {
        return Err(wrong());
    }
    Ok(First::Hosts(hosts))
}

impl First {
    /// Which hosts these are, of those that report.
    pub(crate) fn hosts(&self, reporting: &BTreeSet<String>) -> Result<Vec<String>, String> {
        if reporting.is_empty() {
            return Err("no host of the group reports, so none can try it first".to_owned());
        }
        let count = match self {
            Self::Hosts(hosts) => {
                if let Some(host) = hosts.iter().find(|host| !reporting.contains(*host)) {
                    return Err(format!(
                        "`{host}` does not report to the group, so it can't try it first"
                    ));
                }
                return Ok(hosts.clone());
            }
            Self::Count(count) => *count,
            #[expect(
                clippy::cast_precision_loss,
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "a share of hosts, rounded up, of which there are few"
            )]
            Self::Share(share) => (reporting.len() as f64 * share / 100.0).ceil() as usize,
        };
        Ok(reporting.iter().take(count.max(1)).cloned().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_a_number_a_share_or_names() {
        let reporting: BTreeSet<_> = ["a", "b", "c"].map(str::to_owned).into();
        for (text, hosts) in [
            ("1", vec!["a"]),
            ("5%", vec!["a"]),
            ("50%", vec!["a", "b"]),
            ("100%", vec!["a", "b", "c"]),
            ("9", vec!["a", "b", "c"]),
            ("c,a", vec!["c", "a"]),
        ] {
            assert_eq!(
                parse_first(text).unwrap().hosts(&reporting).unwrap(),
                hosts,
                "{text}"
            );
        }
        for text in ["0", "0%", "101%", "x%", "a,,b", "a b", ""] {
            assert!(parse_first(text).is_err(), "{text}");
        }
        let unknown = parse_first("d").unwrap().hosts(&reporting).unwrap_err();
        assert!(unknown.contains("`d` does not report"), "{unknown}");
        assert!(parse_first("1").unwrap().hosts(&BTreeSet::new()).is_err());
    }
}
