//! What was measured, as rows.

use std::fmt::Write as _;

use serde_json::{Value, json};

/// One contender in one case.
#[derive(Clone, Debug)]
pub(super) struct Row {
    /// What was measured: `packet`, `flood`, `load` and so on.
    pub(super) part: &'static str,
    /// On what: `IPv4 sparse 1000 random`.
    pub(super) case: String,
    /// Who.
    pub(super) contender: String,
    /// The median and the quartiles.
    pub(super) spread: Spread,
    /// Of what.
    pub(super) unit: &'static str,
    /// Beside it in the table: memory, instructions.
    pub(super) note: String,
}

/// The median of some measurements, and the quartiles around it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Spread {
    pub(super) median: f64,
    pub(super) low: f64,
    pub(super) high: f64,
}

impl Spread {
    /// Of at least one measurement.
    pub(super) fn of(mut values: Vec<f64>) -> Option<Self> {
        values.sort_by(f64::total_cmp);
        let at = |quarter: usize| {
            values
                .get(values.len().checked_sub(1)? * quarter / 4)
                .copied()
        };
        Some(Self {
            median: at(2)?,
            low: at(1)?,
            high: at(3)?,
        })
    }
}

/// All rows, in the order of measuring.
#[derive(Debug, Default)]
pub(super) struct Results {
    rows: Vec<Row>,
}

impl Results {
    pub(super) fn push(&mut self, row: Row) {
        eprintln!(
            "   {} · {} · {}: {:.2} {} {}",
            row.part, row.case, row.contender, row.spread.median, row.unit, row.note
        );
        self.rows.push(row);
    }

    /// The median of a row.
    pub(super) fn median(&self, part: &str, case: &str, contender: &str) -> Option<f64> {
        let mut rows = self.rows.iter();
        rows.find(|row| row.part == part && row.case == case && row.contender == contender)
            .map(|row| row.spread.median)
    }

    /// The cases of a part, in their order.
    pub(super) fn cases(&self, part: &str) -> Vec<&str> {
        let mut cases: Vec<&str> = self
            .rows
            .iter()
            .filter(|row| row.part == part)
            .map(|row| row.case.as_str())
            .collect();
        cases.dedup();
        cases
    }

    /// The unit of a row's ratio: the first contender of its case.
    fn unit(&self, row: &Row) -> Option<f64> {
        let mut rows = self.rows.iter();
        rows.find(|other| other.part == row.part && other.case == row.case)
            .map(|first| first.spread.median)
    }

    /// A table for each part.
    pub(super) fn markdown(&self) -> String {
        let mut text = String::new();
        let mut part = "";
        for row in &self.rows {
            if row.part != part {
                part = row.part;
                // Writing to a string can't fail.
                let _: std::fmt::Result = write!(
                    text,
                    "\n| {part} | | {} | quartiles | ratio to the first | |\n|---|---|---|---|---|---|\n",
                    row.unit
                );
            }
            let ratio = self
                .unit(row)
                .map_or(f64::NAN, |unit| row.spread.median / unit);
            let Spread { median, low, high } = row.spread;
            let _: std::fmt::Result = writeln!(
                text,
                "| {} | {} | {median:.2} | {low:.2}–{high:.2} | {ratio:.2} | {} |",
                row.case, row.contender, row.note
            );
        }
        text
    }

    /// The same for machines.
    pub(super) fn json(&self) -> Vec<Value> {
        let rows = self.rows.iter();
        rows.map(|row| {
            json!({
                "part": row.part,
                "case": row.case,
                "contender": row.contender,
                "unit": row.unit,
                "median": row.spread.median,
                "low": row.spread.low,
                "high": row.spread.high,
                "ratio": self.unit(row).map(|unit| row.spread.median / unit),
                "note": row.note,
            })
        })
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_lies_between_the_quartiles() {
        let spread = Spread::of(vec![9.0, 1.0, 5.0, 7.0, 3.0]).unwrap();
        assert_eq!((spread.low, spread.median, spread.high), (3.0, 5.0, 7.0));
        assert_eq!(Spread::of(Vec::new()), None);
    }

    #[test]
    fn ratios_are_to_the_first_of_a_case() {
        let mut results = Results::default();
        for (case, contender, median) in
            [("a", "drop", 2.0), ("a", "trie", 6.0), ("b", "drop", 5.0)]
        {
            let spread = Spread::of(vec![median]).unwrap();
            results.push(Row {
                part: "packet",
                case: case.to_owned(),
                contender: contender.to_owned(),
                spread,
                unit: "ns",
                note: String::new(),
            });
        }
        assert_eq!(results.json()[1]["ratio"], 3.0);
        assert_eq!(results.json()[2]["ratio"], 1.0);
        assert_eq!(results.median("packet", "a", "trie"), Some(6.0));
        assert!(
            results
                .markdown()
                .contains("| a | trie | 6.00 | 6.00–6.00 | 3.00 |  |")
        );
    }
}
