//! Elements of sets and maps.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use smallvec::{SmallVec, smallvec};

use super::matching::Range;
use super::set::Spelled;
use super::statement::Verdict;
use super::value::Value;

/// Both ends, included, of each field of a key.
type KeyFields = SmallVec<[(Value, Value); 3]>;

/// An element of a set or map.
///
/// ```
/// use std::net::Ipv4Addr;
/// use std::time::Duration;
/// use nft::{Element, Value};
///
/// let (first, last) = (Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 0, 9));
/// let single = Element::of(first).timeout(Duration::from_secs(90));
/// assert_eq!(single.to_string(), "10.0.0.1 timeout 1m30s");
/// let range = Element::range(first, last).comment("lab").goto("from-lab");
/// assert_eq!(range.to_string(), "10.0.0.1-10.0.0.9 comment \"lab\" : goto from-lab");
/// let several = Element::fields([first.into(), Value::Protocol(6), Value::U16(443)]);
/// assert_eq!(several.to_string(), "10.0.0.1 . tcp . 443");
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Element {
    key: KeyFields,
    /// Of a set of intervals: there, also a single key is a range.
    interval: bool,
    data: Option<Data>,
    comment: Option<Arc<str>>,
    timeout: Option<Duration>,
}

/// What a map's element leads to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Data {
    /// In a verdict map.
    Verdict(Verdict),
    /// In any other.
    Value(Value),
}

impl Element {
    fn new(key: KeyFields, interval: bool) -> Self {
        Self {
            key,
            interval,
            data: None,
            comment: None,
            timeout: None,
        }
    }

    /// A key of one field.
    pub fn of(value: impl Into<Value>) -> Self {
        let value = value.into();
        Self::new(smallvec![(value, value)], false)
    }

    /// A key of several fields.
    pub fn fields(values: impl IntoIterator<Item = Value>) -> Self {
        let key = values.into_iter().map(|value| (value, value));
        Self::new(key.collect(), false)
    }

    /// A range of keys of one field, both ends included: for a set of intervals.
    ///
    /// Those of one set are given in their order, since the kernel wants a set's beginning marked.
    pub fn range(low: impl Into<Value>, high: impl Into<Value>) -> Self {
        Self::new(smallvec![(low.into(), high.into())], true)
    }

    /// A range in each of several fields, both ends included: for a set of intervals.
    pub fn ranges(ends: impl IntoIterator<Item = (Value, Value)>) -> Self {
        Self::new(ends.into_iter().collect(), true)
    }

    /// The same with another key, of ranges as before or of single values as before.
    pub fn with_key(mut self, ends: impl IntoIterator<Item = (Value, Value)>) -> Self {
        self.key = ends.into_iter().collect();
        self
    }

    /// In a verdict map: where it leads.
    pub fn verdict(mut self, verdict: Verdict) -> Self {
        self.data = Some(Data::Verdict(verdict));
        self
    }

    /// In a verdict map: goes to this chain, and does not come back.
    pub fn goto(self, chain: impl Into<Arc<str>>) -> Self {
        self.verdict(Verdict::goto(chain))
    }

    /// In a verdict map: calls this chain.
    pub fn jump(self, chain: impl Into<Arc<str>>) -> Self {
        self.verdict(Verdict::jump(chain))
    }

    /// In a map of values: the value.
    pub fn to(mut self, value: impl Into<Value>) -> Self {
        self.data = Some(Data::Value(value.into()));
        self
    }

    /// nft's `comment`, at most 127 bytes.
    pub fn comment(mut self, comment: impl Into<Arc<str>>) -> Self {
        self.comment = Some(comment.into());
        self
    }

    /// How long it stays, in a set with a timeout; to a millisecond.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Both ends, included, of each field of its key.
    pub fn key(&self) -> &[(Value, Value)] {
        &self.key
    }

    /// The only field of its key, if it is an address and nothing more.
    pub fn address(&self) -> Option<IpAddr> {
        match self.key[..] {
            [(Value::V4(low), Value::V4(high))] if low == high => Some(low.into()),
            [(Value::V6(low), Value::V6(high))] if low == high => Some(low.into()),
            _ => None,
        }
    }

    /// Whether it is for a set of intervals.
    pub const fn is_interval(&self) -> bool {
        self.interval
    }

    /// What it leads to.
    pub const fn data(&self) -> Option<&Data> {
        self.data.as_ref()
    }

    /// The chain to which it leads.
    pub fn chain(&self) -> Option<&str> {
        match &self.data {
            Some(Data::Verdict(verdict)) => verdict.chain(),
            _ => None,
        }
    }

    /// Its comment.
    pub fn comment_text(&self) -> Option<&str> {
        self.comment.as_deref()
    }

    pub(super) const fn time_to_live(&self) -> Option<Duration> {
        self.timeout
    }
}

impl fmt::Display for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, (low, high)) in self.key.iter().enumerate() {
            let dot = if n > 0 { " . " } else { "" };
            f.write_str(dot)?;
            if low == high {
                write!(f, "{low}")?;
            } else {
                write!(f, "{}", Range(low, high))?;
            }
        }
        if let Some(timeout) = self.timeout {
            write!(f, " timeout {}", Spelled(timeout))?;
        }
        if let Some(comment) = &self.comment {
            write!(f, " comment \"{comment}\"")?;
        }
        match &self.data {
            Some(Data::Verdict(verdict)) => write!(f, " : {verdict}"),
            Some(Data::Value(value)) => write!(f, " : {value}"),
            None => Ok(()),
        }
    }
}
