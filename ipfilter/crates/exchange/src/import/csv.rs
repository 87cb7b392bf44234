//! Comma-separated values (RFC 4180, without line breaks inside a field).

use super::{Choice, Imported, Problems};
use crate::{
    Problem,
    block::{Range, set, unexpected},
};

/// Whether a line is a row rather than addresses with commas between them.
pub(super) fn is_row(line: &str) -> bool {
    let fields = fields(line);
    let addresses = fields
        .iter()
        .filter(|field| Range::parse(field.trim()).is_some());
    fields.len() > 1 && addresses.count() < fields.len()
}

fn fields(line: &str) -> Vec<String> {
    let (mut fields, mut field, mut quoted) = (Vec::new(), String::new(), false);
    let separator = if line.contains(',') {
        ','
    } else if line.contains(';') {
        ';'
    } else {
        '\t'
    };
    let mut characters = line.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '"' if quoted && characters.peek() == Some(&'"') => {
                characters.next();
                field.push('"');
            }
            '"' => quoted = !quoted,
            other if other == separator && !quoted => fields.push(std::mem::take(&mut field)),
            other => field.push(other),
        }
    }
    fields.push(field);
    fields
}

pub(super) fn read(text: &str, choice: &Choice) -> Result<Imported, Vec<Problem>> {
    let (mut ranges, mut problems) = (Vec::new(), Problems::default());
    let rows = (1..).zip(text.lines());
    let mut rows = rows
        .filter(|(_, line)| !line.trim().is_empty() && !line.trim_start().starts_with('#'))
        .map(|(number, line)| (number, fields(line)))
        .peekable();
    let has_heading = rows.peek().is_some_and(|(_, first)| {
        !first
            .iter()
            .any(|field| Range::parse(field.trim()).is_some())
    });
    let heading = if has_heading { rows.next() } else { None };
    let wanted = match (&choice.column, &heading) {
        (None, _) => None,
        (Some(wanted), heading) => {
            Some(find(wanted, heading.as_ref().map(|it| &it.1)).map_err(|problem| vec![problem])?)
        }
    };
    for (number, fields) in rows {
        let found: Vec<(usize, Range)> = fields
            .iter()
            .enumerate()
            .filter(|(index, _)| wanted.is_none_or(|wanted| wanted == *index))
            .filter_map(|(index, field)| Some((index, Range::parse(field.trim())?)))
            .collect();
        match (found.as_slice(), wanted) {
            ([(_, range)], _) => ranges.push(*range),
            ([], Some(wanted)) => {
                let field = fields.get(wanted).map_or("", String::as_str);
                problems.add(number, 1, unexpected(field));
            }
            ([], None) => problems.add(number, 1, "this row has no address"),
            _ => problems.add(
                number,
                1,
                "this row has several addresses: say which column with `--column`",
            ),
        }
    }
    problems.or(Imported {
        entries: ranges.len(),
        sources: set(ranges),
    })
}

/// The index of the column with that heading or number.
fn find(wanted: &str, heading: Option<&Vec<String>>) -> Result<usize, Problem> {
    let by_name = heading.and_then(|heading| {
        heading
            .iter()
            .position(|name| name.trim().eq_ignore_ascii_case(wanted))
    });
    let by_number = || wanted.parse::<usize>().ok()?.checked_sub(1);
    by_name.or_else(by_number).ok_or_else(|| {
        let names = heading.map_or_else(String::new, |heading| {
            format!(": there are {}", heading.join(", "))
        });
        Problem::new(1, 1, format!("no column `{wanted}`{names}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_column_with_addresses_is_found() {
        let text = "name,\"network, cidr\",since\n\"Office, main\",192.0.2.0/24,2020\nHome,\"2001:db8::/48\",2021\n";
        let imported = read(text, &Choice::default()).unwrap();
        assert_eq!(imported.entries, 2);
        assert!(is_row("Home,192.0.2.1") && !is_row("192.0.2.1,192.0.2.2"));
    }

    #[test]
    fn one_of_several_columns_is_chosen() {
        let text = "from,to\n192.0.2.1,198.51.100.1\n";
        assert!(read(text, &Choice::default()).is_err());
        for column in ["to", "2"] {
            let choice = Choice {
                column: Some(column.into()),
                ..Choice::default()
            };
            let imported = read(text, &choice).unwrap();
            assert!(imported.sources.contains("198.51.100.1".parse().unwrap()));
        }
        let choice = Choice {
            column: Some("cc".into()),
            ..Choice::default()
        };
        assert!(
            read(text, &choice).unwrap_err()[0]
                .message
                .contains("from, to")
        );
    }
}
