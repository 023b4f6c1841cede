//! Transactions: steps that are carried out all or none.

use std::fmt;

use super::check::{self, Invalid};
use super::step::{Elements, Object, PlacedRule, Step, Verb};
use super::table::Table;

/// Steps that the kernel carries out all or none.
///
/// Each is checked when it comes in. A fault does not interrupt whoever adds steps one after the
/// other: the first one is kept, [`fault`](Self::fault) tells it, and
/// [`commit`](super::Nft::commit) refuses the transaction with it.
///
/// Prints itself as a file for `nft -f`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Transaction {
    steps: Vec<Step>,
    fault: Option<Invalid>,
}

/// What an element of several fields counts as in [`Transaction::pieces`].
const TOGETHER: usize = 3;

impl Transaction {
    /// Without any step yet.
    pub const fn new() -> Self {
        Self {
            steps: Vec::new(),
            fault: None,
        }
    }

    /// [`Verb::Add`]
    pub fn add(&mut self, table: &Table, object: impl Into<Object>) -> &mut Self {
        self.push(Verb::Add, table, object.into())
    }

    /// [`Verb::Create`]
    pub fn create(&mut self, table: &Table, object: impl Into<Object>) -> &mut Self {
        self.push(Verb::Create, table, object.into())
    }

    /// [`Verb::Insert`]
    pub fn insert(&mut self, table: &Table, rule: PlacedRule) -> &mut Self {
        self.push(Verb::Insert, table, rule.into())
    }

    /// [`Verb::Replace`]
    pub fn replace(&mut self, table: &Table, rule: PlacedRule) -> &mut Self {
        self.push(Verb::Replace, table, rule.into())
    }

    /// [`Verb::Delete`]
    pub fn delete(&mut self, table: &Table, object: impl Into<Object>) -> &mut Self {
        self.push(Verb::Delete, table, object.into())
    }

    /// [`Verb::Destroy`]
    pub fn destroy(&mut self, table: &Table, object: impl Into<Object>) -> &mut Self {
        self.push(Verb::Destroy, table, object.into())
    }

    /// [`Verb::Flush`]
    pub fn flush(&mut self, table: &Table, object: impl Into<Object>) -> &mut Self {
        self.push(Verb::Flush, table, object.into())
    }

    fn push(&mut self, verb: Verb, table: &Table, object: Object) -> &mut Self {
        let table = table.clone();
        self.steps.push(Step {
            verb,
            table,
            object,
        });
        if let (None, Some((step, before))) = (&self.fault, self.steps.split_last()) {
            self.fault = check::step(step, before).err();
        }
        self
    }

    /// The steps of another one behind those of this one.
    pub fn append(&mut self, other: Self) -> &mut Self {
        self.steps.extend(other.steps);
        self.fault = self.fault.take().or(other.fault);
        self
    }

    /// The same steps, in their order, as transactions of at most so many objects each: for what nobody uses yet, so that
    /// nobody has to wait until the kernel has made all of it. An element counts as one, or as three if it has several
    /// fields, since the kernel works as long on it.
    pub fn pieces(self, most: usize) -> Vec<Self> {
        let most = most.max(1);
        let mut pieces = vec![Self {
            steps: Vec::new(),
            fault: self.fault,
        }];
        let mut room = most;
        let mut put = |step: Step, size: usize| {
            if size > room {
                pieces.push(Self::new());
                room = most;
            }
            room = room.saturating_sub(size);
            if let Some(piece) = pieces.last_mut() {
                piece.steps.push(step);
            }
        };
        for step in self.steps {
            let Object::Elements(Elements { set, elements }) = step.object else {
                put(step, 1);
                continue;
            };
            let together = elements.iter().any(|element| element.key().len() > 1);
            let weight = if together { TOGETHER } else { 1 };
            for elements in elements.chunks((most / weight).max(1)) {
                let own = Step {
                    verb: step.verb,
                    table: step.table.clone(),
                    object: Elements::new(&set, elements.to_vec()).into(),
                };
                put(own, elements.len() * weight);
            }
        }
        pieces
    }

    /// In their order.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// Nothing is done.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// Why no kernel would take it.
    pub const fn fault(&self) -> Option<&Invalid> {
        self.fault.as_ref()
    }
}

impl fmt::Display for Transaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.steps.iter().try_for_each(|step| writeln!(f, "{step}"))
    }
}
