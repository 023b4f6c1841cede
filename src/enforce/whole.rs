//! Which of the parts that pods share are known to be whole, so that an ADD need neither compile them
//! nor read them back.
//!
//! The kernel numbers the states of a namespace's ruleset: every transaction, ours or another's, adds
//! one. A part that was whole in one state is so in the next if the transaction between was ours.
//! What is known is kept with that number; with any other number nothing is known, and everything is
//! compared again.

use crate::store::{StateDir, Verified};
use nft::{self, Nft, Transaction};

/// What is known of the kernel's present state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Whole {
    /// The parts are [`crate::plan::Base::marker`] and [`crate::plan::Compiled::name`].
    known: Verified,
    /// It can't be kept: what another version of this program knows stands there.
    is_others: bool,
}

impl Whole {
    /// What was kept, if nothing has changed since. To be called under [`StateDir::lock`].
    ///
    /// # Errors
    /// The kernel does not tell its state's number.
    pub fn load(state: &StateDir, nft: &mut Nft) -> Result<Self, nft::Error> {
        let mut now = Self::nothing(nft)?;
        match state.read_verified() {
            Ok(Some(kept)) if now.is_of_the_same_state(&kept) => now.known = kept,
            Ok(_) => {}
            Err(e) => {
                tracing::debug!("{e}; everything is compared");
                now.is_others = e.is_other_version();
            }
        }
        Ok(now)
    }

    fn is_of_the_same_state(&self, kept: &Verified) -> bool {
        (kept.generation, kept.netns) == (self.known.generation, self.known.netns)
    }

    /// Nothing is known of the present state.
    ///
    /// # Errors
    /// The kernel does not tell its number.
    pub fn nothing(nft: &mut Nft) -> Result<Self, nft::Error> {
        let known = Verified {
            generation: nft.generation()?,
            netns: netlink::identity_of(nft).unwrap_or_default(),
            ..Verified::default()
        };
        Ok(Self {
            known,
            is_others: false,
        })
    }

    /// The state of which this is known.
    pub const fn generation(&self) -> u32 {
        self.known.generation
    }

    /// Whether the part is known to be whole.
    pub fn has(&self, part: &str) -> bool {
        self.known.netns != (0, 0) && self.known.parts.contains(part)
    }

    /// A transaction of ours that changed something has been made since [`Whole::load`]. If it was the only one, what was
    /// known still holds, and `there` are whole; `gone` are no more.
    pub fn keep(mut self, state: &StateDir, nft: &mut Nft, there: &[&str], gone: &[&str]) {
        self.advance(state, nft, there, gone);
    }

    /// The same, to go on with; whether what was known still holds.
    fn advance(&mut self, state: &StateDir, nft: &mut Nft, there: &[&str], gone: &[&str]) -> bool {
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
        if let Err(e) = state.write_verified(known) {
            tracing::debug!("{e}; the next call compares everything");
        }
        true
    }
}

/// Makes one transaction after the other, and writes on what is known after each.
pub struct Ledger<'a> {
    state: &'a StateDir,
    whole: Whole,
}

impl<'a> Ledger<'a> {
    /// With what is known. To be used under [`StateDir::lock`].
    ///
    /// # Errors
    /// The kernel does not tell its state's number.
    pub fn open(state: &'a StateDir, nft: &mut Nft) -> Result<Self, nft::Error> {
        let whole = Whole::load(state, nft)?;
        Ok(Self { state, whole })
    }

    /// Somebody else changes the tables: nothing is known of them.
    ///
    /// # Errors
    /// The kernel does not tell its state's number.
    pub fn forget(&mut self, nft: &mut Nft) -> Result<(), nft::Error> {
        // Whose document it is does not change with that.
        let is_others = self.whole.is_others;
        self.whole = Whole {
            is_others,
            ..Whole::nothing(nft)?
        };
        Ok(())
    }

    /// Whether the part is known to be whole.
    pub fn has(&self, part: &str) -> bool {
        self.whole.has(part)
    }

    /// Commits, if nobody else has changed what is known; then `there` are whole, and `gone` are no
    /// more.
    pub(super) fn commit(
        &mut self,
        nft: &mut Nft,
        ops: &Transaction,
        there: &[&str],
        gone: &[&str],
    ) -> Result<(), nft::Error> {
        if ops.is_empty() {
            return Ok(());
        }
        let known = !self.whole.known.parts.is_empty();
        nft.commit_at(ops, known.then_some(self.whole.generation()))?;
        if !self.whole.advance(self.state, nft, there, gone) {
            self.forget(nft)?;
        }
        Ok(())
    }
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
            let mut transactions = 0;
            let mut commit = |whole: Whole, there: &[&str], gone: &[&str]| {
                transactions += 1; // one that changes nothing is none
                let mut ops = Transaction::new();
                ops.add(&INET, Object::Table);
                ops.add(&INET, Chain::new(format!("c{transactions}")));
                nft.commit_at(&ops, Some(whole.generation()))
                    .expect("nobody else is here");
                whole.keep(&state, &mut nft, there, gone);
            };
            let load = || Whole::load(&state, &mut Nft::open().expect("a socket")).expect("told");
            assert!(!load().has("pol-1"));
            commit(load(), &["base", "pol-1"], &[]);
            assert!(load().has("base") && load().has("pol-1"));
            commit(load(), &["pol-2"], &["pol-1"]);
            assert!(load().has("base") && load().has("pol-2") && !load().has("pol-1"));

            let before = load();
            run("nft", &["add table ip others"]);
            assert!(!load().has("base") && !load().has("pol-2"));
            let mut table = Transaction::new();
            table.add(&NETDEV, Object::Table);
            let late = Nft::open()
                .expect("a socket")
                .commit_at(&table, Some(before.generation()));
            assert!(late.expect_err("something changed").is_conflict());
            before.keep(&state, &mut Nft::open().expect("a socket"), &["base"], &[]);
            assert!(
                load().has("base"),
                "one transaction, which is taken for ours"
            );

            let before = load();
            run("nft", &["add table ip one"]);
            run("nft", &["add table ip two"]);
            before.keep(&state, &mut Nft::open().expect("a socket"), &["base"], &[]);
            assert!(!load().has("base"), "two transactions");
        });
    }
}
