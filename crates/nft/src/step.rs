//! One step of a transaction: a verb, and the object with which something is done. Each prints itself as a line of
//! nft text; how it becomes netlink messages is in [`super::message`].

use std::fmt;
use std::net::IpAddr;

use super::chain::Chain;
use super::element::Element;
use super::set::Set;
use super::statement::Rule;
use super::table::Table;

/// What is done with an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verb {
    /// Puts it there; one that is there already and alike stays. A rule goes behind all others, or
    /// behind the one that it names.
    Add,
    /// As add, but one that is there already is an error.
    Create,
    /// Puts a rule before all others, or before the one that it names.
    Insert,
    /// Puts a rule in the place of the one that it names.
    Replace,
    /// Takes it away; it must be there.
    Delete,
    /// Takes it away, if it is there (Linux 6.3).
    Destroy,
    /// Takes away all that is in it: a table's or chain's rules, a set's elements.
    Flush,
}

impl Verb {
    /// nft's word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Verb::Add => "add",
            Verb::Create => "create",
            Verb::Insert => "insert",
            Verb::Replace => "replace",
            Verb::Delete => "delete",
            Verb::Destroy => "destroy",
            Verb::Flush => "flush",
        }
    }
}

/// With what something is done; the table is named beside it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Object {
    /// The table itself.
    Table,
    /// A chain.
    Chain(Chain),
    /// A rule of a chain.
    Rule(PlacedRule),
    /// A set or map.
    Set(Set),
    /// A set or map, only named: for verbs that need no more.
    SetName(SetName),
    /// Elements of a set or map.
    Elements(Elements),
}

/// A rule and its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlacedRule {
    /// The chain that it is in.
    pub chain: String,
    /// The kernel's number of a rule of the chain: the one to delete or replace, or the one beside
    /// which this one is put. See [`Nft::rules`](super::Nft::rules).
    pub handle: Option<u64>,
    /// The rule; to delete one, an empty rule does.
    pub rule: Rule,
}

/// The name of a set or map. To flush a map, give its [`Set`]: by its name alone, the kernel flushes it, too, but
/// nft reads `flush set` and looks for no map.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SetName(pub String);

/// Some elements of one set or map.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Elements {
    /// The name of the set or map.
    pub set: String,
    /// Which elements; to delete them, their keys do.
    pub elements: Vec<Element>,
}

impl Elements {
    /// Elements of the set of this name.
    pub fn new(set: impl Into<String>, elements: Vec<Element>) -> Self {
        let set = set.into();
        Self { set, elements }
    }

    /// One address of the set of this name.
    pub fn address(set: impl Into<String>, address: IpAddr) -> Self {
        Self::new(set, vec![Element::of(address)])
    }
}

impl Rule {
    /// The rule as one of this chain.
    pub fn in_chain(self, chain: impl Into<String>) -> PlacedRule {
        PlacedRule {
            chain: chain.into(),
            handle: None,
            rule: self,
        }
    }
}

impl PlacedRule {
    /// The rule that has this number in the kernel, or the place beside that one.
    pub fn at(mut self, handle: u64) -> Self {
        self.handle = Some(handle);
        self
    }
}

impl From<Chain> for Object {
    fn from(chain: Chain) -> Self {
        Object::Chain(chain)
    }
}

impl From<PlacedRule> for Object {
    fn from(rule: PlacedRule) -> Self {
        Object::Rule(rule)
    }
}

impl From<Set> for Object {
    fn from(set: Set) -> Self {
        Object::Set(set)
    }
}

impl From<SetName> for Object {
    fn from(name: SetName) -> Self {
        Object::SetName(name)
    }
}

impl From<Elements> for Object {
    fn from(elements: Elements) -> Self {
        Object::Elements(elements)
    }
}

/// One step of a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// What is done.
    pub verb: Verb,
    /// In which table.
    pub table: Table,
    /// With what.
    pub object: Object,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Step {
            verb,
            table,
            object,
        } = self;
        write!(f, "{} ", verb.as_str())?;
        let adds = matches!(verb, Verb::Add | Verb::Create);
        match object {
            Object::Table => write!(f, "table {table}"),
            Object::Chain(chain) => match &chain.hook {
                Some(hook) if adds => write!(f, "chain {table} {} {{ {hook} }}", chain.name),
                _ => write!(f, "chain {table} {}", chain.name),
            },
            Object::Rule(placed) => {
                write!(f, "rule {table} {}", placed.chain)?;
                if let Some(handle) = placed.handle {
                    write!(f, " handle {handle}")?;
                }
                match verb {
                    Verb::Delete | Verb::Destroy => Ok(()),
                    _ => write!(f, " {}", placed.rule),
                }
            }
            Object::Set(set) => {
                let kind = if set.data.is_some() { "map" } else { "set" };
                write!(f, "{kind} {table} {}", set.name)?;
                if adds {
                    write!(f, " {{ {set} }}")?;
                }
                Ok(())
            }
            Object::SetName(SetName(name)) => write!(f, "set {table} {name}"),
            Object::Elements(elements) => {
                write!(f, "element {table} {} {{ ", elements.set)?;
                for (n, element) in elements.elements.iter().enumerate() {
                    let comma = if n > 0 { ", " } else { "" };
                    write!(f, "{comma}{element}")?;
                }
                f.write_str(" }")
            }
        }
    }
}
