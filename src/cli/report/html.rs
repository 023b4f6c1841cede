//! Text in HTML: whatever a log says, it stays text.

use jiff::Timestamp;

/// Escapes for elements and for quoted attributes (HTML standard, section 13.3). What can't be seen
/// or turns the writing direction is shown as U+FFFD.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            ' ' => escaped.push(' '),
            _ if c.is_ascii_graphic() || c.is_alphanumeric() => escaped.push(c),
            _ => escaped.push('\u{fffd}'),
        }
    }
    escaped
}

/// `2026-01-31 09:30:00`, in UTC.
pub(super) fn time_text(time: Timestamp) -> String {
    time.strftime("%F %T").to_string()
}

/// A table whose cells name their columns, so that a narrow screen can show each row as a card.
pub(super) struct HtmlTable {
    titles: &'static [(&'static str, ColumnKind)],
    rows: String,
}

/// What a column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ColumnKind {
    Text,
    /// Names, addresses, rules.
    Code,
    /// One address or service, which is not broken into lines where there is room.
    Short,
    Number,
}

impl ColumnKind {
    fn class(self) -> &'static str {
        match self {
            ColumnKind::Text => "text",
            ColumnKind::Code => "code",
            ColumnKind::Short => "code short",
            ColumnKind::Number => "number",
        }
    }
}

impl HtmlTable {
    pub(super) fn new(titles: &'static [(&'static str, ColumnKind)]) -> HtmlTable {
        HtmlTable {
            titles,
            rows: String::new(),
        }
    }

    /// Adds a row of texts, which are escaped here.
    pub(super) fn row(&mut self, class: &str, cells: &[String]) {
        self.rows
            .push_str(&format!("<tr class=\"{}\">", escape(class)));
        for ((title, kind), cell) in self.titles.iter().zip(cells) {
            let zero = if *kind == ColumnKind::Number && cell == "0" {
                " zero"
            } else {
                ""
            };
            self.rows.push_str(&format!(
                "<td class=\"{}{zero}\" data-label=\"{}\">{}</td>",
                kind.class(),
                escape(title),
                escape(cell)
            ));
        }
        self.rows.push_str("</tr>\n");
    }

    pub(super) fn html(&self) -> String {
        let mut head = String::new();
        for (title, kind) in self.titles {
            head.push_str(&format!(
                "<th scope=\"col\" class=\"{}\">{}</th>",
                kind.class(),
                escape(title)
            ));
        }
        format!(
            "<table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{}</tbody>\n</table>\n",
            self.rows
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_ends_a_text_or_hides_in_it() {
        assert_eq!(
            escape("<script>alert('a' && \"b\")</script>"),
            "&lt;script&gt;alert(&#39;a&#39; &amp;&amp; &quot;b&quot;)&lt;/script&gt;"
        );
        assert_eq!(
            escape("a\u{202e}b\0\n\u{1b}[\u{200b}ü"),
            "a\u{fffd}b\u{fffd}\u{fffd}\u{fffd}[\u{fffd}ü"
        );
    }
}
