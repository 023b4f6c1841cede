//! Which of the parts that pods share are known to be whole, so that an ADD need neither compile them
//! nor read them back.
//!
//! The kernel numbers the states of a namespace's ruleset: every transaction, ours or another's, adds
//! one. A part that was whole in one state is so in the next if the transaction between was ours.
//! What is known is kept with that number; with any other number nothing is known, and everything is
//! compared again.

use super::measured::TransactionKind;
use crate::store::{StateDir, Verified};
use nft::{self, Nft, Transaction};

/// What is known of the kernel's present state. Makes one transaction after the other, and writes on what is known
/// after each.
pub struct Ledger<'a> {
    state: &'a StateDir,
    /// The parts are [`crate::plan::Base::marker`] and [`crate::plan::Compiled::name`].
    known: Verified,
    /// It can't be kept: what another version of this program knows stands there.
    is_others: bool,
}

impl<'a> Ledger<'a> {
    /// With what was kept, if nothing has changed since. To be used under [`StateDir::lock`].
    ///
    /// # Errors
    /// The kernel does not tell its state's number.
    pub fn open(state: &'a StateDir, nft: &mut Nft) -> Result<Self, nft::Error> {
        let mut known = nothing(nft)?;
        let mut is_others = false;
        match state.read_verified() {
            Ok(Some(kept)) if (kept.generation, kept.netns) == (known.generation, known.netns) => {
                known = kept;
            }
            Ok(_) => {}
            Err(e) => {
                tracing::debug!("{e}; everything is compared");
                is_others = e.is_other_version();
            }
        }
        Ok(Self {
            state,
            known,
            is_others,
        })
    }

    /// Somebody else changes the tables: nothing is known of them.
    ///
    /// # Errors
    /// The kernel does not tell its state's number.
    pub fn forget(&mut self, nft: &mut Nft) -> Result<(), nft::Error> {
        // Whose document it is does not change with that.
        self.known = nothing(nft)?;
        Ok(())
    }

    /// Something that was taken for whole was found damaged: nobody is to rely on what was known.
    ///
    /// # Errors
    /// The kernel does not tell its state's number.
    pub fn distrust(&mut self, nft: &mut Nft) -> Result<(), nft::Error> {
        self.forget(nft)?;
        if !self.is_others
            && let Err(e) = self.state.write_verified(&self.known)
        {
            tracing::warn!("{e}; damaged objects may be taken for verified ones");
        }
        Ok(())
    }

    /// The state directory in which that is kept.
    pub(super) fn state(&self) -> &'a StateDir {
        self.state
    }

    /// Whether the part is known to be whole.
    pub fn has(&self, part: &str) -> bool {
        self.known.netns != (0, 0) && self.known.parts.contains(part)
    }

    /// Commits, if nobody else has changed what is known; then `there` are whole, and `gone` are no
    /// more.
    pub(super) fn commit(
        &mut self,
        nft: &mut Nft,
        (kind, ops): (TransactionKind, &Transaction),
        there: &[&str],
        gone: &[&str],
    ) -> Result<(), nft::Error> {
        if ops.is_empty() {
            return Ok(());
        }
        let known = !self.known.parts.is_empty();
        let generation = known.then_some(self.known.generation);
        kind.measure(|| nft.commit_at(ops, generation))?;
        if !self.advance(nft, there, gone) {
            self.forget(nft)?;
        }
        Ok(())
    }

    /// A transaction of ours that changed something has been made. If it was the only one, what was known still holds,
    /// and `there` are whole; `gone` are no more. Whether it holds.
    fn advance(&mut self, nft: &mut Nft, there: &[&str], gone: &[&str]) -> bool {
        let known = &mut self.known;
        let next = known.generation.wrapping_add(1).max(1); // the kernel leaves out zero
        match nft.generation() {
            Ok(generation) if generation == next && !self.is_others => {
                known.generation = generation;
            }
            _ => return false,
        }
        let there = there.iter().map(|part| (*part).to_owned());
        known.parts.extend(there);
        known.parts.retain(|part| !gone.contains(&part.as_str()));
        if let Err(e) = self.state.write_verified(known) {
            tracing::debug!("{e}; the next call compares everything");
        }
        true
    }
}

/// Of the kernel's present state, but for its number.
fn nothing(nft: &mut Nft) -> Result<Verified, nft::Error> {
    Ok(Verified {
        generation: nft.generation()?,
        netns: netlink::identity_of(nft).unwrap_or_default(),
        ..Verified::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{INET, NETDEV};
    use netlink::test_support::{in_fresh_netns, run};
    use nft::{Chain, Object};

    #[test]
    fn what_is_known_holds_until_somebody_else_changes_anything() {
        in_fresh_netns(|| {
            let dir = tempfile::tempdir().expect("a directory");
            let state = StateDir::new(dir.path());
            let mut nft = Nft::open().expect("a socket");
            let load = || {
                let mut nft = Nft::open().expect("a socket");
                Ledger::open(&state, &mut nft).expect("told")
            };
            let mut transactions = 0;
            let mut transaction = || {
                transactions += 1; // one that changes nothing is none
                let mut ops = Transaction::new();
                ops.add(&INET, Object::Table);
                ops.add(&INET, Chain::new(format!("c{transactions}")));
                ops
            };
            let mut commit = |there: &[&str], gone: &[&str]| {
                let ops = transaction();
                load()
                    .commit(&mut nft, (TransactionKind::Put, &ops), there, gone)
                    .expect("nobody else is here");
            };
            assert!(!load().has("pol-1"));
            commit(&["base", "pol-1"], &[]);
            assert!(load().has("base") && load().has("pol-1"));
            commit(&["pol-2"], &["pol-1"]);
            assert!(load().has("base") && load().has("pol-2") && !load().has("pol-1"));

            let mut before = load();
            let generation = before.known.generation;
            run("nft", &["add table ip others"]);
            assert!(!load().has("base") && !load().has("pol-2"));
            let mut table = Transaction::new();
            table.add(&NETDEV, Object::Table);
            let mut nft = Nft::open().expect("a socket");
            let late = before.commit(&mut nft, (TransactionKind::Put, &table), &[], &[]);
            assert!(late.expect_err("something changed").is_conflict());
            assert_eq!(before.known.generation, generation);
            before.advance(&mut nft, &["base"], &["pol-2"]);
            assert!(
                load().has("base") && !load().has("pol-2"),
                "one transaction, which is taken for ours"
            );

            let mut before = load();
            run("nft", &["add table ip one"]);
            run("nft", &["add table ip two"]);
            assert!(!before.advance(&mut nft, &["base"], &[]));
            assert!(!load().has("base"), "two transactions");
        });
    }
}
