//! Texts inside texts: a YAML scalar's value, each character of which is known by its place in the file.

use granit_parser::ScalarStyle;

/// A text, and where its characters stand in the file.
#[derive(Debug, Clone)]
pub(super) struct Text {
    pub content: String,
    origin: Origin,
}

#[derive(Debug, Clone)]
enum Origin {
    /// The text is the file.
    File,
    /// The file's byte for each byte of the text, and for its end.
    Each(Vec<usize>),
    /// Only the file's byte where the text starts is known.
    Start(usize),
}

impl Text {
    /// A whole file.
    pub fn file(content: String) -> Self {
        Self {
            content,
            origin: Origin::File,
        }
    }

    /// A scalar's value, which is written in `outer` from `start` to `end`.
    pub fn scalar(
        outer: &Text,
        (start, end): (usize, usize),
        style: ScalarStyle,
        value: &str,
    ) -> Self {
        let written = outer.content.get(start..end).unwrap_or_default();
        let origin = match (align(written, style, value), outer.is_exact()) {
            (Some(places), true) => {
                Origin::Each(places.iter().map(|at| outer.place(start + at)).collect())
            }
            _ => Origin::Start(outer.place(start)),
        };
        Self {
            content: value.to_owned(),
            origin,
        }
    }

    /// The file's byte for a byte of this text.
    pub fn place(&self, byte: usize) -> usize {
        match &self.origin {
            Origin::File => byte,
            Origin::Each(places) => {
                let end = places.last().copied().unwrap_or_default();
                places.get(byte).copied().unwrap_or(end)
            }
            Origin::Start(start) => *start,
        }
    }

    /// Whether [`Text::place`] is exact, not only where the text starts.
    pub fn is_exact(&self) -> bool {
        !matches!(self.origin, Origin::Start(_))
    }

    /// The bytes of the file that stand for `width` characters of this text from a line and column on, both from 1.
    pub fn stretch(&self, line: usize, column: usize, width: usize) -> (usize, usize) {
        let line_start: usize = self
            .content
            .split_inclusive('\n')
            .take(line.saturating_sub(1))
            .map(str::len)
            .sum();
        let rest = self.content.get(line_start..).unwrap_or_default();
        let rest_of_line = rest.split(['\r', '\n']).next().unwrap_or_default();
        let mut chars = rest_of_line
            .char_indices()
            .skip(column.saturating_sub(1))
            .take(width.max(1));
        let Some((first, c)) = chars.next() else {
            let end = self.place(line_start + rest_of_line.len());
            return (end, end);
        };
        let (last, c) = chars.last().unwrap_or((first, c));
        let start = self.place(line_start + first);
        let end = self.place(line_start + last) + c.len_utf8();
        (start, end.max(start))
    }
}

/// For each byte of a scalar's value and for its end, the byte of `written` that it comes from.
///
/// Characters that are no blanks come in the same order in both, and between them folding only adds and removes
/// blanks: so their places are certain. `None` if that does not hold.
fn align(written: &str, style: ScalarStyle, value: &str) -> Option<Vec<usize>> {
    let mut source = ScalarText {
        written,
        style,
        at: 0,
    };
    if matches!(style, ScalarStyle::SingleQuoted | ScalarStyle::DoubleQuoted) {
        source.at = 1;
    }
    let mut places = Vec::with_capacity(value.len() + 1);
    for c in value.chars() {
        let place = if is_blank(c) {
            source.take_blank(c)
        } else {
            source.take(c)?
        };
        places.extend(std::iter::repeat_n(place, c.len_utf8()));
    }
    places.push(source.at);
    Some(places)
}

fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\r' | '\n')
}

/// Walks over a scalar as written.
struct ScalarText<'a> {
    written: &'a str,
    style: ScalarStyle,
    at: usize,
}

impl ScalarText<'_> {
    fn rest(&self) -> &str {
        self.written.get(self.at..).unwrap_or_default()
    }

    fn skip_blanks(&mut self) {
        let blanks = self.rest().len() - self.rest().trim_start_matches(is_blank).len();
        self.at += blanks;
    }

    /// Goes past blanks to the character `c`, and past it.
    fn take(&mut self, c: char) -> Option<usize> {
        loop {
            self.skip_blanks();
            match self.unit()? {
                // A backslash at a line's end joins it with the next.
                (None, length) => self.at += length,
                (Some(found), length) if found == c => {
                    let place = self.at;
                    self.at += length;
                    return Some(place);
                }
                (Some(_), _) => return None,
            }
        }
    }

    /// A blank of the value: escaped, as it is, or what folding made of others.
    fn take_blank(&mut self, c: char) -> usize {
        while let Some((None, length)) = self.unit() {
            self.at += length;
            self.skip_blanks();
        }
        let place = self.at;
        match self.unit() {
            Some((Some(found), length)) if is_blank(found) => {
                self.at += length;
                // `\r\n` is one end of a line.
                if found == '\r' && c == '\n' && self.rest().starts_with('\n') {
                    self.at += 1;
                }
            }
            _ => {}
        }
        place
    }

    /// What is written next: the character that it stands for, if any, and its bytes.
    fn unit(&self) -> Option<(Option<char>, usize)> {
        let rest = self.rest();
        let c = rest.chars().next()?;
        match self.style {
            ScalarStyle::SingleQuoted if rest.starts_with("''") => Some((Some('\''), 2)),
            ScalarStyle::DoubleQuoted if c == '\\' => escape(rest),
            _ => Some((Some(c), c.len_utf8())),
        }
    }
}

/// An escape of a double-quoted scalar (YAML 1.2.2 section 5.7), and JSON's pairs of `\u`.
fn escape(rest: &str) -> Option<(Option<char>, usize)> {
    let kind = rest[1..].chars().next()?;
    let hex = |from: usize, digits: usize| {
        let digits = rest.get(from..from + digits)?;
        u32::from_str_radix(digits, 16).ok()
    };
    let simple = |c: char| Some((Some(c), 2));
    match kind {
        '\n' => Some((None, 2)),
        '\r' if rest[2..].starts_with('\n') => Some((None, 3)),
        '0' => simple('\0'),
        'a' => simple('\u{7}'),
        'b' => simple('\u{8}'),
        't' | '\t' => simple('\t'),
        'n' => simple('\n'),
        'v' => simple('\u{b}'),
        'f' => simple('\u{c}'),
        'r' => simple('\r'),
        'e' => simple('\u{1b}'),
        'N' => simple('\u{85}'),
        '_' => simple('\u{a0}'),
        'L' => simple('\u{2028}'),
        'P' => simple('\u{2029}'),
        'x' => Some((char::from_u32(hex(2, 2)?), 4)),
        'U' => Some((char::from_u32(hex(2, 8)?), 10)),
        'u' => match hex(2, 4)? {
            high @ 0xd800..=0xdbff => {
                let low = hex(8, 4)?.checked_sub(0xdc00)?;
                let c = char::from_u32(0x10000 + ((high - 0xd800) << 10) + low)?;
                Some((Some(c), 12))
            }
            code => Some((Some(char::from_u32(code)?), 6)),
        },
        ' ' | '"' | '/' | '\\' => simple(kind),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use granit_parser::{Event, Parser};

    use super::*;

    /// The only scalar that is no key in `yaml`, as a text.
    fn value(yaml: &str) -> Text {
        let file = Text::file(yaml.to_owned());
        let mut scalars = Parser::new_from_str(yaml).filter_map(|event| match event {
            Ok((Event::Scalar(value, style, ..), span)) => {
                let ends = (span.start.byte_offset()?, span.end.byte_offset()?);
                Some(Text::scalar(&file, ends, style, &value))
            }
            Ok(_) => None,
            Err(error) => panic!("{yaml}: {error}"),
        });
        scalars.nth(1).expect("a value")
    }

    /// What stands in `yaml` where the value has `word`.
    #[track_caller]
    fn check(yaml: &str, words: &[(&str, &str)]) {
        let text = value(yaml);
        assert!(text.is_exact(), "{yaml}");
        for (word, written) in words {
            let at = text.content.find(word).unwrap_or_else(|| {
                panic!("no {word:?} in {:?}", text.content);
            });
            let line = text.content[..at].matches('\n').count() + 1;
            let line_start = text.content[..at].rfind('\n').map_or(0, |end| end + 1);
            let column = text.content[line_start..at].chars().count() + 1;
            let (start, _) = text.stretch(line, column, word.chars().count());
            assert!(
                yaml[start..].starts_with(written),
                "{yaml:?}: {word:?} leads to {:?}",
                &yaml[start..]
            );
        }
    }

    #[test]
    fn every_style_leads_back_to_the_file() {
        let same = [("deny", "deny"), ("bad", "bad"), ("ö", "ö")];
        for yaml in [
            "k: |\n  deny ö # c\n\n    bad  x\n",
            "k: |2-\n    deny\n\n   ö bad",
            "k: |+ # comment\r\n  deny\r\n  ö bad\r\n\r\n",
            "k: >\n  deny\n  ö;\n\n    bad\n   x\n",
            "k: deny ö;\n  bad\n\n  x\n",
            "k: 'deny ö;\n\n  bad'\n",
            "k: \"deny ö \\\n   ; \\\n  bad\"\n",
            "{\"k\": \"deny ö;bad\"}",
            "? k\n: deny ö bad\n",
        ] {
            check(yaml, &same);
        }
    }

    #[test]
    fn escapes_lead_to_where_they_are_written() {
        check(
            r#"k: "a\n\tdeny\x20\u00f6\u003b \U0001F600 \/z""#,
            &[
                ("deny", "deny"),
                ("ö", r"\u00f6"),
                (";", r"\u003b"),
                ("😀", r"\U0001F600"),
                ("/z", r"\/z"),
            ],
        );
        check(
            r#"{"k": "\ud83d\ude00 bad\n"}"#,
            &[("😀", r"\ud83d"), ("bad", "bad")],
        );
        check("k: 'it''s bad'", &[("'s", "''s"), ("bad", "bad")]);
    }

    #[test]
    fn the_point_behind_the_last_word_is_on_its_line() {
        let yaml = "k: |\n  allow to\n  deny\n";
        let text = value(yaml);
        assert_eq!(text.stretch(1, 9, 1), (15, 15));
        assert_eq!(&yaml[..15], "k: |\n  allow to");
        assert_eq!(text.stretch(99, 1, 1).0, yaml.len());
    }

    #[test]
    fn a_text_that_does_not_fit_is_known_by_its_start() {
        let file = Text::file("k: deny".to_owned());
        let text = Text::scalar(&file, (3, 7), ScalarStyle::Plain, "allow");
        assert!(!text.is_exact());
        assert_eq!(text.stretch(1, 3, 2).0, 3);
    }
}
