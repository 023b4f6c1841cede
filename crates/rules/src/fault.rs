//! What is wrong with a policy text, shown so that its author can mend it.

use std::fmt;
use std::path::Path;

use unicode_width::UnicodeWidthStr;

use super::lexer::Place;

/// Faults described in full; the rest is only counted, so that a hostile text stays cheap.
const DESCRIBED: usize = 100;
/// Faults printed by `Display`.
const PRINTED: usize = 5;
/// Characters of the source line shown on either side of a fault, and of the fault itself.
const CONTEXT: usize = 60;
/// Characters of a word repeated in a message.
const WORD: usize = 60;

/// One fault, and where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Which text: `pod annotation egressway.dev/rules`, `/etc/egressway/policy.yaml: enforced`.
    pub source: String,
    /// The line in that text, from 1.
    pub line: usize,
    /// The first character at fault in that line, from 1.
    pub column: usize,
    /// How many characters are at fault, at least 1.
    pub width: usize,
    /// The line as it is shown: control characters escaped, a long one cut around the fault.
    pub source_line: String,
    /// What is wrong, and what was expected.
    pub message: String,
    /// What was probably meant, or what to do.
    pub help: Option<String>,
    /// Where the carets stand under `source_line`: first column of a terminal (from 0) and how many. Some letters
    /// take two.
    pub caret: (usize, usize),
}

impl Fault {
    /// A fault at a place in the text called `source`.
    pub fn new(source: &str, place: Place<'_>, complaint: Complaint) -> Fault {
        let (source_line, caret) = excerpt(place);
        Fault {
            source: source.to_owned(),
            line: place.line,
            column: place.column,
            width: place.width.max(1),
            source_line,
            message: complaint.message,
            help: complaint.help,
            caret,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (indent, carets) = (self.caret.0, "^".repeat(self.caret.1));
        writeln!(
            f,
            "{}:{}:{}: {}",
            self.source, self.line, self.column, self.message
        )?;
        writeln!(f, "  {}", self.source_line)?;
        write!(f, "  {:indent$}{carets}", "")?;
        if let Some(help) = &self.help {
            write!(f, "\n  help: {help}")?;
        }
        Ok(())
    }
}

/// All faults of one or several texts; never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Faults {
    described: Vec<Fault>,
    undescribed: usize,
}

impl Faults {
    /// A single fault.
    pub fn one(source: &str, place: Place<'_>, complaint: Complaint) -> Faults {
        Faults {
            described: vec![Fault::new(source, place, complaint)],
            undescribed: 0,
        }
    }

    /// The faults in the order of the text; of a text with very many, the first hundred.
    pub fn described(&self) -> &[Fault] {
        &self.described
    }

    /// How many there are, described or not.
    pub fn count(&self) -> usize {
        self.described.len() + self.undescribed
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, fault) in self.described.iter().take(PRINTED).enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            write!(f, "{fault}")?;
        }
        if self.count() > PRINTED {
            write!(f, "\nand {} more", self.count() - PRINTED)?;
        }
        Ok(())
    }
}

impl std::error::Error for Faults {}

/// Gathers faults until a text has been read to its end.
#[derive(Debug, Default)]
pub struct Collector {
    described: Vec<Fault>,
    undescribed: usize,
}

impl Collector {
    /// Notes what is wrong at a place in the text called `source`.
    pub fn add(&mut self, source: &str, place: Place<'_>, complaint: Complaint) {
        if self.described.len() < DESCRIBED {
            self.described.push(Fault::new(source, place, complaint));
        } else {
            self.undescribed += 1;
        }
    }

    /// Whether nothing was wrong so far.
    pub fn is_empty(&self) -> bool {
        self.described.is_empty()
    }

    /// Takes over the faults of another text.
    pub fn extend(&mut self, faults: Faults) {
        let room = DESCRIBED - self.described.len();
        self.undescribed += faults.undescribed + faults.described.len().saturating_sub(room);
        self.described
            .extend(faults.described.into_iter().take(room));
    }

    /// `Ok(value)` if there was no fault.
    ///
    /// # Errors
    /// All that there were, if there was any.
    pub fn finish<T>(self, value: T) -> Result<T, Faults> {
        if self.described.is_empty() {
            return Ok(value);
        }
        Err(Faults {
            described: self.described,
            undescribed: self.undescribed,
        })
    }
}

/// What is wrong with one word, before it is known where that stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Complaint {
    /// What is wrong.
    pub message: String,
    /// What to write instead.
    pub help: Option<String>,
}

impl Complaint {
    /// A complaint without help.
    pub fn new(message: impl Into<String>) -> Complaint {
        Complaint {
            message: message.into(),
            help: None,
        }
    }

    /// The same with what to do.
    pub fn help(mut self, help: impl Into<String>) -> Complaint {
        self.help = Some(help.into());
        self
    }

    /// The same with what to write instead.
    pub fn meant(self, instead: impl fmt::Display) -> Complaint {
        self.help(format!("did you mean `{instead}`?"))
    }

    /// The same with what to write instead, if that is known.
    pub fn maybe_meant(self, instead: Option<impl fmt::Display>) -> Complaint {
        match instead {
            Some(instead) => self.meant(instead),
            None => self,
        }
    }
}

/// A word of the text, fit for a message: in backticks, escaped, cut when long.
pub fn quoted(word: &str) -> String {
    format!("`{}`", cut(word.chars(), word.len(), WORD))
}

/// A text that others made, such as a file's name, fit for a terminal: control and invisible characters are escaped.
pub fn printable(text: &str) -> String {
    let escaped = |c: char| match c {
        '"' | '\'' | '\\' => c.to_string(),
        _ => c.escape_debug().to_string(),
    };
    text.chars().map(escaped).collect()
}

/// A file's name in a message: see [`printable`].
pub fn shown(path: &Path) -> String {
    printable(&path.to_string_lossy())
}

/// The line around a place, and where the carets stand under it.
fn excerpt(place: Place<'_>) -> (String, (usize, usize)) {
    let (before, rest) = place.source_line.split_at(place.start);
    let (fault, after) = rest.split_at(place.end - place.start);

    let tail: Vec<char> = before.chars().rev().take(CONTEXT + 1).collect();
    let mut shown = String::new();
    if tail.len() > CONTEXT {
        shown.push('…');
    }
    shown.extend(tail.iter().take(CONTEXT).rev().map(|c| escaped(*c)));
    let indent = shown.width();
    let fault = cut(fault.chars(), fault.len(), CONTEXT);
    let width = fault.width();
    shown.push_str(&fault);
    shown.push_str(&cut(after.chars(), after.len(), CONTEXT));
    (shown.trim_end().to_owned(), (indent, width.max(1)))
}

/// At most `limit` characters, escaped, and `…` for what is missing. `bytes` is the length of the whole.
fn cut(chars: impl Iterator<Item = char>, bytes: usize, limit: usize) -> String {
    let mut taken = 0;
    let mut shown = String::new();
    for c in chars.take(limit) {
        taken += c.len_utf8();
        shown.push_str(&escaped(c));
    }
    if taken < bytes {
        shown.push('…');
    }
    shown
}

/// A character as it may be shown on a terminal and in an event: no control, no invisible, no bidirectional one.
fn escaped(c: char) -> String {
    match c {
        '\t' => " ".to_owned(),
        '"' | '\'' | '\\' => c.to_string(),
        _ => c.escape_debug().to_string(),
    }
}
