//! What was found, and where.

use super::kind::{Kind, Severity};
use super::text::Text;
use rules::fault::{Complaint, Fault, Faults};
use rules::lexer::Place;

/// One fault in one file.
#[derive(Debug, Clone)]
pub struct Finding {
    /// Which check found it.
    pub kind: &'static Kind,
    /// `Deployment payments/web`, if it is in an object.
    pub object: Option<String>,
    /// Its source is the file's name.
    pub fault: Fault,
}

impl Finding {
    /// Whether it is an error or a warning.
    pub const fn severity(&self) -> Severity {
        self.kind.severity
    }
}

/// A stretch of a text by its lines and columns, both from 1.
#[derive(Debug, Clone, Copy)]
pub(super) struct Spot {
    pub line: usize,
    pub column: usize,
    pub width: usize,
}

impl From<&Fault> for Spot {
    fn from(fault: &Fault) -> Self {
        Self {
            line: fault.line,
            column: fault.column,
            width: fault.width,
        }
    }
}

impl From<Place<'_>> for Spot {
    fn from(place: Place<'_>) -> Self {
        Self {
            line: place.line,
            column: place.column,
            width: place.width,
        }
    }
}

/// Gathers what is found in one file.
pub(super) struct Findings<'a> {
    name: &'a str,
    file: &'a Text,
    /// The byte with which each line starts.
    lines: Vec<usize>,
    /// The object that is looked at.
    pub object: Option<String>,
    findings: Vec<Finding>,
}

impl<'a> Findings<'a> {
    pub fn new(name: &'a str, file: &'a Text) -> Self {
        let ends = file.content.match_indices('\n');
        Self {
            name,
            file,
            lines: std::iter::once(0)
                .chain(ends.map(|(at, _)| at + 1))
                .collect(),
            object: None,
            findings: Vec::new(),
        }
    }

    /// All findings in the order of the file, each once.
    pub fn finish(mut self) -> Vec<Finding> {
        let key = |finding: &Finding| (finding.fault.line, finding.fault.column, finding.kind.id);
        self.findings.sort_by_key(key);
        self.findings
            .dedup_by(|a, b| key(a) == key(b) && a.fault.message == b.fault.message);
        self.findings
    }

    /// Notes something at bytes of the file.
    pub fn add(&mut self, kind: &'static Kind, (start, end): (usize, usize), complaint: Complaint) {
        let place = self.place(start, end);
        self.findings.push(Finding {
            kind,
            object: self.object.clone(),
            fault: Fault::new(self.name, place, complaint),
        });
    }

    /// Notes something in a text that stands in the file.
    pub fn add_in(&mut self, kind: &'static Kind, text: &Text, spot: Spot, complaint: Complaint) {
        let stretch = text.stretch(spot.line, spot.column, spot.width);
        let complaint = if text.is_exact() {
            complaint
        } else {
            let inside = format!(
                "in line {}, column {} of the text that starts here: ",
                spot.line, spot.column
            );
            Complaint {
                message: inside + &complaint.message,
                ..complaint
            }
        };
        self.add(kind, stretch, complaint);
    }

    /// The file's line in which something of a text stands.
    pub fn line_of(&self, text: &Text, spot: Spot) -> usize {
        let (start, end) = text.stretch(spot.line, spot.column, spot.width);
        self.place(start, end).line
    }

    /// Notes the faults of a text that stands in the file.
    pub fn add_faults(&mut self, kind: &'static Kind, text: &Text, faults: &Faults) {
        for fault in faults.described() {
            let complaint = Complaint {
                message: fault.message.clone(),
                help: fault.help.clone(),
            };
            self.add_in(kind, text, fault.into(), complaint);
        }
        let more = faults.count() - faults.described().len();
        if let (Some(last), 1..) = (faults.described().last(), more) {
            let complaint = Complaint::new(format!("and {more} more errors in this text"));
            self.add_in(kind, text, last.into(), complaint);
        }
    }

    /// At most one line, even if the bytes are of several.
    fn place(&self, start: usize, end: usize) -> Place<'a> {
        let text: &'a str = &self.file.content;
        let start = floor(text, start);
        let line = self.lines.partition_point(|first| *first <= start);
        let first = self.lines[line - 1];
        let rest = &text[first..];
        let source_line = rest.split('\n').next().unwrap_or_default();
        let source_line = source_line.strip_suffix('\r').unwrap_or(source_line);
        let start = (start - first).min(source_line.len());
        let end = floor(source_line, end.saturating_sub(first)).max(start);
        Place {
            line,
            column: source_line[..start].chars().count() + 1,
            width: source_line[start..end].chars().count(),
            source_line,
            start,
            end,
        }
    }
}

/// The start of the character that this byte belongs to.
fn floor(text: &str, byte: usize) -> usize {
    let mut byte = byte.min(text.len());
    while !text.is_char_boundary(byte) {
        byte -= 1;
    }
    byte
}
