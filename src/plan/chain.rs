//! Chains that no pod has for itself.

use nft::{Hook, Rule, Table};

/// A chain that is no pod's own.
#[derive(Debug, Clone)]
pub struct BaseChain {
    /// In which table.
    pub table: &'static Table,
    /// Its name.
    pub name: &'static str,
    /// Where it sees packets; none if other chains lead to it.
    pub hook: Option<Hook>,
    /// Its rules.
    pub rules: Vec<Rule>,
}
