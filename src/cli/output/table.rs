//! Tables for people.

use super::plain::plain;

/// Where the columns of a table stand.
#[derive(Debug, Clone, Copy)]
pub(in crate::cli) struct Layout {
    /// Least number of spaces between two columns.
    gap: usize,
    /// Least width of a column, the gap included.
    least: usize,
}

/// As kubectl prints tables.
pub(in crate::cli) const KUBECTL: Layout = Layout { gap: 3, least: 6 };
/// As runc prints tables.
pub(in crate::cli) const RUNC: Layout = Layout { gap: 3, least: 12 };

/// A table that can grow after it has been printed: later rows keep the columns of the first ones
/// where they fit.
#[derive(Debug)]
pub(in crate::cli) struct Table {
    layout: Layout,
    widths: Vec<usize>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with a heading.
    pub(in crate::cli) fn new<'a>(
        layout: Layout,
        titles: impl IntoIterator<Item = &'a str>,
    ) -> Self {
        let mut table = Self { layout, widths: Vec::new(), rows: Vec::new() };
        table.push(titles.into_iter().map(str::to_owned));
        table
    }

    /// Adds a row. What a terminal would obey is made visible.
    pub(in crate::cli) fn push(&mut self, cells: impl IntoIterator<Item = String>) {
        let cells: Vec<String> = cells.into_iter().map(|cell| plain(&cell).into_owned()).collect();
        self.widths.resize(self.widths.len().max(cells.len()), self.layout.least);
        for (width, cell) in self.widths.iter_mut().zip(&cells) {
            *width = (*width).max(cell.chars().count() + self.layout.gap);
        }
        self.rows.push(cells);
    }

    /// The rows that were added since the last call, a line each.
    pub(in crate::cli) fn take(&mut self) -> String {
        let mut text = String::new();
        for row in std::mem::take(&mut self.rows) {
            for (cell, width) in row.iter().zip(&self.widths) {
                text += &format!("{cell:width$}");
            }
            text.truncate(text.trim_end_matches(' ').len());
            text.push('\n');
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(cells: [&str; 3]) -> [String; 3] {
        cells.map(str::to_owned)
    }

    #[test]
    fn columns_are_aligned_like_runc() {
        let mut table = Table::new(RUNC, ["ID", "PID", "x"]);
        assert_eq!(table.take(), "ID          PID         x\n");
        let mut table = Table::new(RUNC, ["ID", "PID", "x"]);
        table.push(row(["a-rather-long-id", "1", "x"]));
        assert_eq!(
            table.take(),
            "ID                 PID         x\na-rather-long-id   1           x\n"
        );
    }

    #[test]
    fn columns_are_aligned_like_kubectl() {
        let mut table = Table::new(KUBECTL, ["NAME", "READY", "AGE"]);
        table.push(row(["web", "1/1", "5s"]));
        assert_eq!(table.take(), "NAME   READY   AGE\nweb    1/1     5s\n");
        table.push(row(["db", "0/1", "1s"]));
        assert_eq!(table.take(), "db     0/1     1s\n");
        table.push(row(["a-long-name", "0/1", "\x1b[2J"]));
        assert_eq!(table.take(), "a-long-name   0/1     \\u{1b}[2J\n");
    }
}
