//! YAML and JSON documents as trees whose nodes know their places.

use std::collections::{HashMap, HashSet};

use granit_parser::{Event, Parser, ScalarStyle, Span};

use super::text::Text;

/// `<<: *base`, which takes over another mapping's entries.
const MERGE: &str = "<<";

/// What the documents of one text are.
#[derive(Debug)]
pub(super) struct Documents {
    /// Those that could be read.
    pub documents: Vec<Document>,
    /// What ended the reading before the text's end.
    pub error: Option<SyntaxError>,
}

/// Where a text stops being YAML.
#[derive(Debug)]
pub(super) struct SyntaxError {
    pub byte: usize,
    pub message: String,
}

/// One document.
#[derive(Debug)]
pub(super) struct Document {
    nodes: Vec<YamlNode>,
    /// Its bytes in the text.
    pub start: usize,
    pub end: usize,
}

#[derive(Debug)]
struct YamlNode {
    content: Content,
    start: usize,
    end: usize,
}

#[derive(Debug)]
enum Content {
    Scalar(String, ScalarStyle),
    Sequence(Vec<usize>),
    /// Keys and values by turns.
    Mapping(Vec<usize>),
}

/// A node of a document. Aliases are the nodes that they stand for.
#[derive(Debug, Clone, Copy)]
pub(super) struct NodeView<'d> {
    document: &'d Document,
    id: usize,
}

/// Reads a text as far as it is YAML.
pub(super) fn read(text: &str) -> Documents {
    let mut reader = Reader::default();
    let mut error = None;
    // Comments say nothing here, and only so many of them are held back before a value.
    let options = granit_parser::options! { emit_comments: false };
    for event in Parser::new_from_str_with_options(text, options) {
        match event {
            Ok((event, span)) => reader.event(event, span),
            Err(found) => {
                error = Some(SyntaxError {
                    byte: found.marker().byte_offset().unwrap_or(0).min(text.len()),
                    message: found.info().to_string(),
                });
                break;
            }
        }
    }
    Documents {
        documents: reader.documents,
        error,
    }
}

#[derive(Debug, Default)]
struct Reader {
    documents: Vec<Document>,
    start: usize,
    nodes: Vec<YamlNode>,
    /// Collections that are not at their end.
    open: Vec<usize>,
    anchors: HashMap<usize, usize>,
}

impl Reader {
    fn event(&mut self, event: Event<'_>, span: Span) {
        let start = span.start.byte_offset().unwrap_or_default();
        let end = span.end.byte_offset().unwrap_or(start);
        match event {
            Event::DocumentStart(..) => {
                self.start = start;
                self.nodes.clear();
                self.open.clear();
                self.anchors.clear();
            }
            Event::DocumentEnd => self.documents.push(Document {
                nodes: std::mem::take(&mut self.nodes),
                start: self.start,
                end: start,
            }),
            Event::Scalar(value, style, anchor, _) => {
                let content = Content::Scalar(value.into_owned(), style);
                self.add(content, start, end, anchor);
            }
            Event::SequenceStart(_, anchor, _) => {
                let id = self.add(Content::Sequence(Vec::new()), start, end, anchor);
                self.open.push(id);
            }
            Event::MappingStart(_, anchor, _) => {
                let id = self.add(Content::Mapping(Vec::new()), start, end, anchor);
                self.open.push(id);
            }
            Event::SequenceEnd | Event::MappingEnd => {
                self.open.pop();
            }
            Event::Alias(anchor) => {
                if let Some(id) = self.anchors.get(&anchor).copied() {
                    self.attach(id);
                }
            }
            _ => {}
        }
    }

    fn add(&mut self, content: Content, start: usize, end: usize, anchor: usize) -> usize {
        let id = self.nodes.len();
        self.nodes.push(YamlNode {
            content,
            start,
            end,
        });
        if anchor != 0 {
            self.anchors.insert(anchor, id);
        }
        self.attach(id);
        id
    }

    fn attach(&mut self, child: usize) {
        let parent = self.open.last().and_then(|id| self.nodes.get_mut(*id));
        match parent.map(|node| &mut node.content) {
            Some(Content::Sequence(children) | Content::Mapping(children)) => children.push(child),
            Some(Content::Scalar(..)) | None => {}
        }
    }
}

impl Document {
    /// The outermost node; `None` for a document without content.
    pub fn root(&self) -> Option<NodeView<'_>> {
        (!self.nodes.is_empty()).then_some(NodeView {
            document: self,
            id: 0,
        })
    }
}

impl<'d> NodeView<'d> {
    fn node(self) -> &'d YamlNode {
        &self.document.nodes[self.id]
    }

    fn at(self, id: usize) -> NodeView<'d> {
        NodeView { id, ..self }
    }

    /// The node's number in its document.
    pub const fn id(self) -> usize {
        self.id
    }

    /// The node's bytes; of a mapping or sequence, only its beginning is known.
    pub fn span(self) -> (usize, usize) {
        (self.node().start, self.node().end)
    }

    /// A scalar's value.
    pub fn as_str(self) -> Option<&'d str> {
        match &self.node().content {
            Content::Scalar(value, _) => Some(value),
            _ => None,
        }
    }

    /// A scalar's value if it is a text: what is written plainly may be a number, a boolean or nothing.
    pub fn as_text(self) -> Option<&'d str> {
        match &self.node().content {
            Content::Scalar(value, ScalarStyle::Plain) if !is_text(value) => None,
            Content::Scalar(value, _) => Some(value),
            _ => None,
        }
    }

    /// A scalar's value, which is written in `outer`, the text of this document.
    pub fn text(self, outer: &Text) -> Option<Text> {
        match &self.node().content {
            Content::Scalar(value, style) => Some(Text::scalar(outer, self.span(), *style, value)),
            _ => None,
        }
    }

    /// The entries of a sequence.
    pub fn items(self) -> impl Iterator<Item = NodeView<'d>> {
        let items = match &self.node().content {
            Content::Sequence(items) => &items[..],
            _ => &[],
        };
        items.iter().map(move |id| self.at(*id))
    }

    pub fn is_sequence(self) -> bool {
        matches!(self.node().content, Content::Sequence(_))
    }

    /// A mapping's entries as written, then those that `<<` takes over and that it does not have.
    pub fn entries(self) -> Vec<(NodeView<'d>, NodeView<'d>)> {
        let mut all = Vec::new();
        let mut known = HashSet::new();
        let mut mappings = vec![self];
        let mut seen = HashSet::new();
        while let Some(mapping) = mappings.pop() {
            if !seen.insert(mapping.id) {
                continue;
            }
            let own = mapping.own_entries();
            let (merges, own): (Vec<_>, Vec<_>) = own
                .into_iter()
                .partition(|(key, _)| key.as_str() == Some(MERGE));
            all.extend(own.iter().filter(|(key, _)| !known.contains(&key.as_str())));
            known.extend(own.iter().map(|(key, _)| key.as_str()));
            for (_, merged) in merges.iter().rev() {
                let items: Vec<_> = merged.items().collect();
                mappings.extend(items.into_iter().rev());
                mappings.push(*merged);
            }
        }
        all
    }

    fn own_entries(self) -> Vec<(NodeView<'d>, NodeView<'d>)> {
        match &self.node().content {
            Content::Mapping(children) => children
                .chunks_exact(2)
                .map(|pair| (self.at(pair[0]), self.at(pair[1])))
                .collect(),
            _ => Vec::new(),
        }
    }

    /// A mapping's value; of several with one key, the last, as Kubernetes takes it.
    pub fn get(self, key: &str) -> Option<NodeView<'d>> {
        let entries = self.entries().into_iter().rev();
        entries
            .filter(|(name, _)| name.as_str() == Some(key))
            .map(|(_, value)| value)
            .next()
    }

    /// The value behind several keys.
    pub fn path(self, keys: &[&str]) -> Option<NodeView<'d>> {
        keys.iter().try_fold(self, |view, key| view.get(key))
    }
}

/// Whether Kubernetes, which reads YAML 1.1, takes a plain scalar for a text.
fn is_text(value: &str) -> bool {
    const OTHERS: [&str; 12] = [
        "", "~", "null", "true", "false", "yes", "no", "on", "off", "y", "n", "nan",
    ];
    let lower = value.to_ascii_lowercase();
    let is_hex = |digits: &str| u64::from_str_radix(digits, 16).is_ok();
    !OTHERS.contains(&lower.as_str())
        && value.parse::<f64>().is_err()
        && !lower.strip_prefix("0x").is_some_and(is_hex)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(text: &str) -> Document {
        let mut read = read(text);
        assert!(read.error.is_none(), "{text}: {:?}", read.error);
        read.documents.remove(0)
    }

    #[test]
    fn aliases_and_merges_are_what_they_stand_for() {
        let document = one("\
base: &base {a: 1, b: 2}
more: &more {a: 9, c: 3}
one: {<<: *base, b: 4}
two: {<<: [*base, *more]}
same: *base
");
        let root = document.root().expect("a root");
        let get = |path: &[&str]| root.path(path).and_then(NodeView::as_str);
        assert_eq!(get(&["one", "a"]), Some("1"));
        assert_eq!(get(&["one", "b"]), Some("4"));
        assert_eq!(get(&["two", "a"]), Some("1"));
        assert_eq!(get(&["two", "c"]), Some("3"));
        assert_eq!(get(&["same", "b"]), Some("2"));
    }

    #[test]
    fn a_tower_of_aliases_costs_nothing() {
        let mut text = String::from("a0: &a0 {x: 1}\n");
        for level in 1..60 {
            let below = level - 1;
            text.push_str(&format!(
                "a{level}: &a{level} {{<<: [*a{below}, *a{below}]}}\n"
            ));
        }
        let document = one(&text);
        let root = document.root().expect("a root");
        assert!(root.path(&["a59", "x"]).is_some());
    }

    #[test]
    fn comments_may_be_of_any_length() {
        let comment = "# why\n".repeat(5000);
        let document = one(&format!("a:\n{comment}  b:\n{comment}    - c\n"));
        let root = document.root().expect("a root");
        assert_eq!(root.path(&["a", "b"]).map(|b| b.items().count()), Some(1));
    }

    #[test]
    fn documents_before_an_error_are_read() {
        let read = read("a: 1\n---\nb: 2\n---\nc: [\n");
        assert_eq!(read.documents.len(), 2);
        assert!(read.error.is_some());
    }

    #[test]
    fn plain_words_that_are_no_text() {
        let document = one("[allow, 5, 0x1f, yes, ~, null, 1e3, 'yes', 1.2.3.4, '', deny to any]");
        let texts: Vec<_> = document
            .root()
            .expect("a root")
            .items()
            .map(|item| item.as_text().is_some())
            .collect();
        assert_eq!(
            texts,
            [
                true, false, false, false, false, false, false, true, true, true, true
            ]
        );
    }
}
