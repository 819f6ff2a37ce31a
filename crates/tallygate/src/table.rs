//! Tables for a person.

use tallygate_core::text::printable;

/// Columns with their heads, two blanks between them; the last one is not filled up.
pub(crate) fn table<const N: usize>(head: [&str; N], rows: &[[String; N]]) -> String {
    let mut widths = head.map(width);
    for row in rows {
        for (widest, cell) in widths.iter_mut().zip(row) {
            *widest = (*widest).max(width(cell));
        }
    }
    let mut lines = vec![line(&head.map(str::to_owned), &widths)];
    lines.extend(rows.iter().map(|row| line(row, &widths)));
    lines.join("\n")
}

fn width(text: &str) -> usize {
    text.chars().count()
}

fn line(cells: &[String], widths: &[usize]) -> String {
    let filled = cells.iter().zip(widths).map(|(cell, widest)| {
        let blanks = widest.saturating_sub(width(cell));
        // What a server tells may be what somebody else made it tell.
        format!("{}{}", printable(cell), " ".repeat(blanks))
    });
    let line: Vec<String> = filled.collect();
    line.join("  ").trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::table;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [
            ["alice".to_owned(), "live".to_owned()],
            ["b\u{1b}".to_owned(), "é".to_owned()],
        ];
        assert_eq!(
            table(["id", "state"], &rows),
            "id     state\nalice  live\nb\u{fffd}     é"
        );
    }
}
