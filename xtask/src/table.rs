//! Text tables for the terminal.

use std::fmt::Write as _;

/// Columns padded to their widest cell, two blanks apart; the last one is left ragged.
pub(crate) fn render(head: &[&str], rows: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = head.iter().map(|cell| width(cell)).collect();
    for row in rows {
        for (most, cell) in widths.iter_mut().zip(row) {
            *most = (*most).max(width(cell));
        }
    }
    let head: Vec<String> = head.iter().map(ToString::to_string).collect();
    let mut text = String::new();
    for row in std::iter::once(&head).chain(rows) {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            // Writing to a string can't fail.
            let _: std::fmt::Result = write!(line, "{cell:width$}  ");
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

fn width(cell: &str) -> usize {
    cell.chars().count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_no_line_ends_in_blanks() {
        let rows = [["allowed", "200"], ["denied", ""]].map(|row| row.map(str::to_owned).to_vec());
        assert_eq!(
            render(&["who", "got"], &rows),
            "who      got\nallowed  200\ndenied\n"
        );
    }

    #[test]
    fn width_is_counted_in_characters() {
        let rows = [vec!["é·é".to_owned(), "x".to_owned()]];
        assert_eq!(render(&["a", "b"], &rows), "a    b\né·é  x\n");
    }
}
