//! Tables: columns as wide as their widest cell, two spaces between, nothing after the last.

use console::measure_text_width;

use super::words::paint;

/// Rows under a heading.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these headings.
    pub(super) fn new(headings: &[&str]) -> Self {
        Self { rows: vec![headings.iter().map(paint::label).collect()] }
    }

    /// Rows without a heading.
    pub(super) fn bare() -> Self {
        Self { rows: Vec::new() }
    }

    /// Adds a row. Cells may be coloured.
    pub(super) fn row(&mut self, cells: impl IntoIterator<Item = impl Into<String>>) {
        // Before they are measured, so that columns line up.
        let plain = |cell: String| rfs_link::plain::line(&cell).into_owned();
        self.rows.push(cells.into_iter().map(|cell| plain(cell.into())).collect());
    }

    /// The table's lines.
    pub(super) fn lines(&self) -> Vec<String> {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell: &String| measure_text_width(cell)).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        self.rows.iter().map(|row| line(row, &widths)).collect()
    }
}

fn line(row: &[String], widths: &[usize]) -> String {
    let last = row.iter().rposition(|cell| measure_text_width(cell) > 0);
    let shown = &row[..last.map_or(0, |last| last + 1)];
    let mut text = String::new();
    for (column, cell) in shown.iter().enumerate() {
        text.push_str(cell);
        if Some(column) != last {
            text.push_str(&" ".repeat(widths[column] + 2 - measure_text_width(cell)));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_whatever_their_colour() {
        let mut table = Table::bare();
        table.row(["web-1", &paint::good("good"), "a"]);
        table.row(["database-1", "unknown", ""]);
        let lines = table.lines().into_iter().map(|line| anstream::adapter::strip_str(&line).to_string());
        assert_eq!(lines.collect::<Vec<_>>(), ["web-1       good     a", "database-1  unknown"]);
    }
}
