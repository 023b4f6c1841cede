//! Cuts a policy text into statements and these into words, each with its place.

/// A stretch of one line: a word, or the point where one is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place<'a> {
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    /// In characters; 0 for the point behind the last word.
    pub width: usize,
    /// The whole line, without its end.
    pub source_line: &'a str,
    /// The bytes of the line that this is.
    pub start: usize,
    /// Exclusive.
    pub end: usize,
}

impl<'a> Place<'a> {
    /// The text that stands here.
    pub fn text(&self) -> &'a str {
        &self.source_line[self.start..self.end]
    }

    /// The point right behind.
    pub fn behind(&self) -> Place<'a> {
        Place {
            column: self.column + self.width,
            width: 0,
            start: self.end,
            ..*self
        }
    }
}

/// The words and commas of one rule; never empty.
#[derive(Debug)]
pub struct Statement<'a> {
    /// Its words, in order.
    pub words: Vec<Place<'a>>,
}

impl<'a> Statement<'a> {
    /// The first word.
    pub fn first(&self) -> Place<'a> {
        self.words[0]
    }

    /// The last word.
    pub fn last(&self) -> Place<'a> {
        self.words[self.words.len() - 1]
    }

    /// The statement as written, trimmed and without its comment.
    pub fn text(&self) -> &'a str {
        &self.first().source_line[self.first().start..self.last().end]
    }
}

/// The statements of a text: one a line, `;` ends one too, `#` starts a comment.
pub fn statements(text: &str) -> impl Iterator<Item = Statement<'_>> {
    lines(text).flat_map(|(number, line)| {
        words(number, line)
            .split(|word| word.text() == ";")
            .filter(|words| !words.is_empty())
            .map(|words| Statement {
                words: words.to_vec(),
            })
            .collect::<Vec<_>>()
    })
}

/// The lines of a text with their numbers; the end of a line may be `\n` or `\r\n`.
pub fn lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.split('\n')
        .enumerate()
        .map(|(index, line)| (index + 1, line.strip_suffix('\r').unwrap_or(line)))
}

/// A line as one place.
pub fn whole_line(line: usize, source_line: &str) -> Place<'_> {
    Place {
        line,
        column: 1,
        width: source_line.chars().count(),
        source_line,
        start: 0,
        end: source_line.len(),
    }
}

/// The words of a line. `,` and `;` are words of their own; spaces and tabs separate; a comment is left out.
pub fn words(line: usize, source_line: &str) -> Vec<Place<'_>> {
    let mut words = Vec::new();
    // The word being read: its first byte and its column.
    let mut word: Option<(usize, usize)> = None;
    let mut column = 0;

    let place = |(start, column): (usize, usize), end: usize, after: usize| Place {
        line,
        column,
        width: after - column,
        source_line,
        start,
        end,
    };
    for (at, c) in source_line.char_indices() {
        column += 1;
        match c {
            ' ' | '\t' | ',' | ';' | '#' => {
                if let Some(word) = word.take() {
                    words.push(place(word, at, column));
                }
            }
            _ => {
                word.get_or_insert((at, column));
            }
        }
        match c {
            ',' | ';' => words.push(place((at, column), at + 1, column + 1)),
            '#' => break,
            _ => {}
        }
    }
    if let Some(word) = word {
        words.push(place(word, source_line.len(), column + 1));
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(text: &str) -> Vec<Vec<(usize, usize, &str)>> {
        statements(text)
            .map(|s| {
                s.words
                    .iter()
                    .map(|w| (w.line, w.column, w.text()))
                    .collect()
            })
            .collect()
    }

    #[test]
    fn cuts_lines_and_semicolons_into_statements() {
        assert_eq!(
            seen("allow a,b;;deny\r\n\n \t# all\npass#x;y"),
            [
                vec![(1, 1, "allow"), (1, 7, "a"), (1, 8, ","), (1, 9, "b")],
                vec![(1, 12, "deny")],
                vec![(4, 1, "pass")],
            ]
        );
    }

    #[test]
    fn counts_columns_in_characters() {
        assert_eq!(
            seen("äöü\t, ß"),
            [[(1, 1, "äöü"), (1, 5, ","), (1, 7, "ß")]]
        );
    }

    #[test]
    fn a_statement_is_its_own_text_without_the_comment() {
        let text = "  deny   to any # none";
        let all: Vec<_> = statements(text).map(|s| s.text().to_owned()).collect();
        assert_eq!(all, ["deny   to any"]);
    }
}
