//! Columns of text. What is styled here is printed through `anstream`, which drops the styles where nobody sees them.

use anstyle::{AnsiColor, Style};

/// Columns whose words are coloured.
const COLOURED: [&str; 2] = ["STATE", "OUTCOME"];

/// A table: the head, and which columns hold words (those are set left, numbers right).
pub(super) struct Table {
    head: Vec<&'static str>,
    words: Vec<bool>,
    rows: Vec<Vec<String>>,
    indent: usize,
}

impl Table {
    /// An empty table. A column whose name begins with `<` holds words.
    pub(super) fn new(head: &[&'static str]) -> Self {
        let words = head.iter().map(|name| name.starts_with('<')).collect();
        let head = head.iter().map(|name| name.trim_start_matches('<')).collect();
        Self { head, words, rows: Vec::new(), indent: 0 }
    }

    /// Moved to the right.
    pub(super) fn indented(mut self, indent: usize) -> Self {
        self.indent = indent;
        self
    }

    /// With these rows.
    pub(super) fn with(mut self, rows: impl IntoIterator<Item = Vec<String>>) -> Self {
        self.rows.extend(rows);
        self
    }

    /// Columns as wide as their widest cell, two spaces apart. A column without any value is left out.
    pub(super) fn print(&self) -> String {
        let used = |i: &usize| self.rows.iter().any(|row| row[*i] != "-");
        let columns: Vec<usize> = (0..self.head.len()).filter(used).collect();
        let head: Vec<String> = self.head.iter().map(|&name| name.to_owned()).collect();
        let mut text = self.line(&head, &columns, |_| Style::new().bold());
        for row in &self.rows {
            text += &self.line(row, &columns, |i| style(self.head[i], &row[i]));
        }
        text
    }

    fn line(&self, row: &[String], columns: &[usize], style: impl Fn(usize) -> Style) -> String {
        let mut text = " ".repeat(self.indent);
        for (n, &i) in columns.iter().enumerate() {
            let cells = self.rows.iter().map(|row| row[i].chars().count());
            let width = cells.chain([self.head[i].len()]).max().unwrap_or(0);
            let room = " ".repeat(width - row[i].chars().count());
            let (before, after) = if self.words[i] { ("", room.as_str()) } else { (room.as_str(), "") };
            let after = if n + 1 == columns.len() { "" } else { after };
            text += &format!("{}{before}{}{after}", if n > 0 { "  " } else { "" }, paint(&row[i], style(i)));
        }
        text.push('\n');
        text
    }
}

/// A word with its style.
pub(super) fn paint(word: &str, style: Style) -> String {
    if style == Style::new() { word.to_owned() } else { format!("{style}{word}{style:#}") }
}

fn style(column: &str, word: &str) -> Style {
    if COLOURED.contains(&column) { word_style(word) } else { Style::new() }
}

/// Green for what ended well, yellow for what wants a look, red for what broke.
pub(super) fn word_style(word: &str) -> Style {
    let colour = match word {
        "finished" | "completed" | "PASS" => AnsiColor::Green,
        "detached" | "cancelled" | "stopped" | "SKIP" => AnsiColor::Yellow,
        "failed" | "damaged" | "diverged" | "FAIL" => AnsiColor::Red,
        _ => return Style::new(),
    };
    Style::new().fg_color(Some(colour.into()))
}
