//! Keeping denied packets on disk.

use ipfilter_document::{
    json::Node,
    problem::{Advice, Path},
    reader::Reader,
};
use serde::{Deserialize, Serialize};

use super::{authorize::unknown, value::Value};

/// How long denied packets are kept, and how much of the disk they may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recording {
    /// For so many days.
    pub days: u32,
    /// In files of so many bytes altogether, at most.
    pub max_bytes: u64,
}

impl Default for Recording {
    fn default() -> Self {
        Self {
            days: 7,
            max_bytes: 64 << 20,
        }
    }
}

/// The least that files may take: less would be thrown away before it is read.
const LEAST: u64 = 1 << 16;

const FIELDS: [&str; 2] = ["days", "max_bytes"];

impl Value for Recording {
    fn takes() -> String {
        let Self { days, max_bytes } = Self::default();
        format!("an object such as {{\"days\": {days}, \"max_bytes\": {max_bytes}}}")
    }

    fn read(reader: &mut Reader, node: Node<'_>, path: &Path<'_>) -> Option<Self> {
        let members = reader.object(node, path, "`record`")?;
        let before = reader.problems.errors();
        let mut read = Self::default();
        for member in &members {
            let path = path.name(&member.name);
            let of = member.value;
            match member.name.as_ref() {
                "days" => {
                    let days = within(reader, of, &path, 1, 3650);
                    read.days = days
                        .and_then(|days| u32::try_from(days).ok())
                        .unwrap_or_default();
                }
                "max_bytes" => {
                    read.max_bytes = within(reader, of, &path, LEAST, 1 << 50).unwrap_or_default();
                }
                _ => unknown(reader, member, &path, &FIELDS),
            }
        }
        (reader.problems.errors() == before).then_some(read)
    }
}

/// A whole number in these bounds.
fn within(
    reader: &mut Reader,
    node: Node<'_>,
    path: &Path<'_>,
    least: u64,
    most: u64,
) -> Option<u64> {
    let number = node.text().parse().ok();
    let number = number.filter(|number| (least..=most).contains(number));
    if number.is_none() {
        reader.error("value", &(path, node.span()), || {
            Advice::new(format!("expected a whole number from {least} to {most}"))
        });
    }
    number
}
