//! Characters in comments that hide from people what a text says: what is shown is then not what is read.

use crate::fault::Complaint;
use crate::lexer::Place;

/// The first such character in a line's comment, and what is wrong with it. In rules themselves, no word has any.
pub(super) fn first<'a>(line: usize, source_line: &'a str) -> Option<(Place<'a>, Complaint)> {
    let comment = source_line.find('#')?;
    let (at, c) = source_line[comment..]
        .char_indices()
        .find(|(_, c)| why(*c).is_some())?;
    let start = comment + at;
    let place = Place {
        line,
        column: source_line[..start].chars().count() + 1,
        width: 1,
        source_line,
        start,
        end: start + c.len_utf8(),
    };
    let message = format!("a comment has U+{:04X}, {}", u32::from(c), why(c)?);
    let complaint = Complaint::new(message)
        .help("remove the character: people would not see what is read here");
    Some((place, complaint))
}

/// What a character does to what people see; `None`: nothing.
fn why(c: char) -> Option<&'static str> {
    match c {
        '\t' => None,
        '\r' => Some("after which a terminal writes over what stands before it"),
        // UAX #9: embeddings, overrides, isolates.
        '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
            Some("which turns the direction of what stands behind it")
        }
        // Ends of lines for some programs (UAX #14), and none here.
        '\u{b}' | '\u{c}' | '\u{85}' | '\u{2028}' | '\u{2029}' => {
            Some("which some programs take for the end of the line")
        }
        c if c.is_control() => Some("a control character"),
        _ => None,
    }
}
