//! Tables and text in Markdown, in which nothing of a document can be anything but text.

use super::evidence::Absent;
use super::figures::NONE;

/// What stands beside the name in a row that has nothing else.
pub const UNMEASURED: &str = "not measured here";

/// Text that Markdown and HTML show as it is, on one line.
pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.split_whitespace().collect::<Vec<_>>().join(" ").chars() {
        match character {
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '&' => escaped.push_str("&amp;"),
            '\\' | '`' | '*' | '_' | '[' | ']' | '|' | '~' | '#' | '!' => {
                escaped.extend(['\\', character]);
            }
            control if control.is_control() => escaped.push('\u{fffd}'),
            plain => escaped.push(plain),
        }
    }
    escaped
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Column {
    /// Names and other short text.
    Text(&'static str),
    /// Sentences, which need room.
    Words(&'static str),
    /// Right-aligned.
    Figure(&'static str),
}

/// A table whose last column is what is to be said beside a row, if there is anything.
#[derive(Debug)]
pub struct Table {
    columns: Vec<Column>,
    rows: Vec<(Vec<String>, String)>,
}

impl Table {
    pub fn new(columns: &[Column]) -> Self {
        Self { columns: columns.to_vec(), rows: Vec::new() }
    }

    /// Cells are text, not Markdown.
    pub fn row(&mut self, cells: Vec<String>, remark: String) {
        self.rows.push((cells, remark));
    }

    /// A row of a name, in the first column, that has nothing else.
    pub fn absent(&mut self, absent: &Absent) {
        let cells = (0..self.columns.len()).map(|index| match index {
            0 => absent.backend.clone(),
            1 => UNMEASURED.to_owned(),
            _ => NONE.to_owned(),
        });
        self.row(cells.collect(), absent.why.clone());
    }

    pub fn all_absent<'a>(&mut self, absent: impl IntoIterator<Item = &'a Absent>) {
        absent.into_iter().for_each(|absent| self.absent(absent));
    }

    pub fn markdown(&self) -> String {
        if self.rows.is_empty() {
            return "Nothing was measured.\n".to_owned();
        }
        let remarks = self.rows.iter().any(|(_, remark)| !remark.is_empty());
        let mut columns = self.columns.clone();
        if remarks {
            columns.push(Column::Words("remarks"));
        }
        let (heads, rules): (Vec<_>, Vec<_>) = columns
            .iter()
            .map(|column| match column {
                Column::Text(name) => (escape(name), ":--"),
                // Aligned alike, but the style sheet tells them apart by it.
                Column::Words(name) => (escape(name), "---"),
                Column::Figure(name) => (escape(name), "--:"),
            })
            .unzip();
        let mut lines = vec![line(heads), line(rules)];
        for (cells, remark) in &self.rows {
            let mut cells: Vec<_> = cells.iter().map(|cell| escape(cell)).collect();
            if remarks {
                cells.push(escape(remark));
            }
            lines.push(line(cells));
        }
        lines.join("\n") + "\n"
    }
}

fn line<T: AsRef<str>>(cells: Vec<T>) -> String {
    let cells: Vec<_> = cells.iter().map(AsRef::as_ref).collect();
    format!("| {} |", cells.join(" | "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_stays_one_cell() {
        let mut table = Table::new(&[Column::Text("name"), Column::Figure("time")]);
        table.row(vec!["a|b\nc".into(), "1 ms".into()], String::new());
        let lines = "| name | time |\n| :-- | --: |\n| a\\|b c | 1 ms |\n";
        assert_eq!(table.markdown(), lines);
    }

    #[test]
    fn remarks_have_a_column_once_there_are_any() {
        let mut table = Table::new(&[Column::Text("name"), Column::Figure("time")]);
        table.row(vec!["a".into(), "1 ms".into()], String::new());
        table.absent(&Absent { backend: "b".into(), why: "it is *not* here".into() });
        let markdown = table.markdown();
        assert!(markdown.contains("| a | 1 ms |  |"), "{markdown}");
        let absent = "| b | not measured here | it is \\*not\\* here |";
        assert!(markdown.contains(absent), "{markdown}");
    }
}
