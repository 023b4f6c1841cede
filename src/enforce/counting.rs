//! What the rules of a policy have counted in the kernel.

use std::collections::HashMap;

use crate::plan::{Compiled, INET};
use nft::{self, Counter, Nft};

/// Where a policy's rules count: in rules of its chains, and in elements of its sets.
#[derive(Debug, Clone)]
pub struct Counting {
    chains: Vec<String>,
    sets: Vec<String>,
}

impl Counting {
    /// Those of a policy.
    pub fn of(compiled: &Compiled) -> Counting {
        let sets = compiled.sets.iter().filter(|(set, _)| set.counter);
        Counting {
            chains: compiled
                .chains
                .iter()
                .map(|(chain, _)| chain.clone())
                .collect(),
            sets: sets.map(|(set, _)| set.name.to_string()).collect(),
        }
    }

    /// By the rules' labels, such as `pod:3`.
    ///
    /// # Errors
    /// The kernel does not tell.
    pub fn count(&self, nft: &mut Nft) -> Result<HashMap<String, Counter>, nft::Error> {
        let mut counted = HashMap::new();
        for chain in &self.chains {
            for rule in nft.rule_counters(&INET, chain)? {
                if let Some(comment) = rule.comment {
                    *counted.entry(comment).or_default() += rule.counter;
                }
            }
        }
        for set in &self.sets {
            for element in nft.cell_counters(&INET, set)? {
                if let Some(comment) = element.comment {
                    *counted.entry(comment).or_default() += element.counter;
                }
            }
        }
        Ok(counted)
    }
}
