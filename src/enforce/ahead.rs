//! A big policy goes into the kernel in pieces, ahead of its first pod.
//!
//! Thousands of elements take the kernel a while, in which no other call gets the state directory's lock. So each piece
//! is a transaction by itself, under the lock for itself, and the lock stays free in between for longer than others
//! wait until they try again. Nobody leads to the policy before ADD's own transaction does.

use std::thread;
use std::time::{Duration, Instant};

use crate::plan::{Compiled, INET};
use crate::refusal::{CniError, nft_failure};
use crate::store::{Passing, StateDir};
use nft::{self, Nft, Transaction};

use super::again;
use super::ledger::Ledger;
use super::measured::TransactionKind;
use super::named;
use super::remove::delete_parts;
use super::switch::{has_some_of, take_away, users_of};

/// How many chains, sets, rules and elements a piece has: the kernel takes milliseconds for so many, even for elements of
/// several fields (`benches/run.sh bystanders`).
const PIECE: usize = 2000;

/// Between two pieces: longer than `store::lock` waits until it tries again.
const PAUSE: Duration = Duration::from_millis(10);

/// How the lock's name begins that is held while a policy is put: none is taken away as nobody's meanwhile.
const LOCK: &str = "putting-";

/// A policy that was put ahead. It is nobody's until its pod is attached, and is not taken for rubbish as long as this is
/// held.
pub struct Ahead<'a> {
    state: &'a StateDir,
    policy: &'a Compiled,
    _lock: Passing,
}

/// Puts a policy that is big, and that the kernel does not have yet, on top of the base that has this marker. None: ADD's
/// own transaction is to see to it.
///
/// # Errors
/// Code 5: the state directory; 103: the kernel refuses.
pub fn put<'a>(
    nft: &mut Nft,
    state: &'a StateDir,
    marker: &str,
    policy: &'a Compiled,
    deadline: Instant,
) -> Result<Option<Ahead<'a>>, CniError> {
    let pieces = policy.add().pieces(PIECE);
    if pieces.len() < 2 {
        return Ok(None);
    }
    // Whoever has the same policy waits, and finds it there.
    let lock = state.lock_passing(&format!("{LOCK}{}", policy.name), deadline)?;
    let ahead = Ahead {
        state,
        policy,
        _lock: lock,
    };
    for (number, piece) in pieces.iter().enumerate() {
        let locked = state.lock(deadline)?;
        let is_first = number == 0;
        let is_last = number + 1 == pieces.len();
        let mut ledger = Ledger::open(state, nft).map_err(nft_failure)?;
        let done = again(nft::Error::is_conflict, || {
            ahead.piece(nft, &mut ledger, marker, piece, (is_first, is_last))
        });
        drop(locked);
        match done {
            Ok(true) => thread::sleep(PAUSE),
            Ok(false) => break,
            // Somebody has removed what was there: all of it is made at once.
            Err(e) if e.is_conflict() => break,
            Err(e) => {
                ahead.take_back(nft, deadline);
                return Err(nft_failure(e));
            }
        }
    }
    Ok(Some(ahead))
}

/// The policies that calls are putting just now.
pub fn being_put(state: &StateDir) -> Vec<String> {
    state.passing(LOCK)
}

impl Ahead<'_> {
    /// What is known as long as all pieces so far are there.
    fn mark(&self) -> String {
        format!("{LOCK}{}", self.policy.name)
    }

    /// Puts one piece; false: nothing is to be put ahead any more.
    fn piece(
        &self,
        nft: &mut Nft,
        ledger: &mut Ledger<'_>,
        marker: &str,
        piece: &Transaction,
        (is_first, is_last): (bool, bool),
    ) -> Result<bool, nft::Error> {
        let name = &*self.policy.name;
        if ledger.has(name) {
            return Ok(false);
        }
        let mark = self.mark();
        if is_first {
            if !nft.has_set(&INET, marker)? || !users_of(nft, name)?.is_empty() {
                return Ok(false);
            }
            named::put(nft, ledger, self.policy)?;
            if has_some_of(nft, name)? {
                let mut remains = Transaction::new();
                delete_parts(nft, name, &mut remains)?;
                ledger.commit(nft, (TransactionKind::TakeAway, &remains), &[], &[&mark])?;
            }
            ledger.commit(nft, (TransactionKind::Put, piece), &[&mark], &[])?;
        } else if is_last && ledger.has(&mark) {
            ledger.commit(nft, (TransactionKind::Put, piece), &[name], &[&mark])?;
        } else {
            ledger.commit(nft, (TransactionKind::Put, piece), &[], &[])?;
        }
        Ok(true)
    }

    /// Takes it out again: its pod could not be attached.
    pub fn take_back(&self, nft: &mut Nft, deadline: Instant) {
        let taken = self.state.lock(deadline).map_err(CniError::from);
        let taken = taken.and_then(|_lock| {
            let mut ledger = Ledger::open(self.state, nft).map_err(nft_failure)?;
            let gone = again(nft::Error::is_conflict, || {
                take_away(nft, &mut ledger, &[&self.policy.name])
            });
            gone.map_err(nft_failure)
        });
        taken.unwrap_or_else(|e| {
            tracing::warn!("{} stays in the kernel until sync: {e}", self.policy.name)
        });
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use netlink::test_support::{in_fresh_netns, run, soon};
    use rules::effective::{DefaultAction, Effective, Facts, Tier, TierRules};

    use super::super::verify::damaged_policy;
    use super::*;
    use crate::plan::{Base, NETDEV, compile};

    /// Neighbours in every set: what one piece ends with, the next one begins behind.
    fn big() -> Compiled {
        let mut text = String::new();
        for n in 0..2500 {
            let (verb, log) = [("deny", ""), ("allow", ""), ("deny", " log")][n % 3];
            writeln!(text, "{verb} to 10.0.{}.{}{log}", n / 256, n % 256).expect("a string");
            if n % 3 == 0 {
                let port = n / 3 + 1;
                writeln!(text, "{verb} {port}/tcp to 10.1.0.{}", n % 256).expect("a string");
            }
        }
        let tier = TierRules::parse(Tier::Pod, "test", &text, false).expect("valid rules");
        let facts = Facts::default();
        let policy = Effective::new(vec![tier], DefaultAction::Deny, false, facts);
        compile(&policy.expect("no unknown names"), 100)
    }

    fn with_base(test: impl FnOnce(&mut Nft, &StateDir, &Base, &Compiled) + Send) {
        in_fresh_netns(|| {
            let dir = tempfile::tempdir().expect("a directory");
            let state = StateDir::new(dir.path());
            let mut nft = Nft::open().expect("a socket");
            let base = Base::new(&[]);
            let mut ledger = Ledger::open(&state, &mut nft).expect("told");
            let marker = [base.marker()];
            let made = ledger.commit(
                &mut nft,
                (TransactionKind::Put, &base.add(&[])),
                &marker,
                &[],
            );
            made.expect("the base");
            test(&mut nft, &state, &base, &big());
        });
    }

    fn is_whole(nft: &mut Nft, policy: &Compiled) -> bool {
        damaged_policy(nft, policy).expect("told").is_none()
    }

    #[test]
    fn a_big_policy_comes_in_pieces_and_is_known_to_be_whole() {
        with_base(|nft, state, base, policy| {
            let before = nft.generation().expect("told");
            let ahead = put(nft, state, base.marker(), policy, soon()).expect("put");
            let ahead = ahead.expect("it is big");
            let pieces = policy.add().pieces(PIECE).len();
            assert!(pieces > 3, "{pieces}");
            let after = nft.generation().expect("told");
            assert_eq!((after - before) as usize, pieces);
            assert!(is_whole(nft, policy));
            let ledger = Ledger::open(state, nft).expect("told");
            assert!(ledger.has(&policy.name) && !ledger.has(&ahead.mark()));
            assert_eq!(being_put(state), std::slice::from_ref(&policy.name));

            ahead.take_back(nft, soon());
            assert!(!Ledger::open(state, nft).expect("told").has(&policy.name));
            for table in [&INET, &NETDEV] {
                let chains = nft.chains(table).expect("told");
                assert!(chains.iter().all(|chain| !chain.name.starts_with("pol-")));
            }
            drop(ahead);
            assert_eq!(being_put(state), Vec::<String>::new());
        });
    }

    #[test]
    fn what_a_killed_call_left_is_made_anew() {
        with_base(|nft, state, base, policy| {
            let pieces = policy.add().pieces(PIECE);
            for piece in &pieces[..2] {
                nft.commit(piece).expect("is taken");
            }
            let lock = format!("{LOCK}{}", policy.name);
            drop(state.lock_named(&lock, soon()).expect("free"));
            assert_eq!(being_put(state), Vec::<String>::new());
            assert!(put(nft, state, base.marker(), policy, soon()).is_ok_and(|put| put.is_some()));
            assert!(is_whole(nft, policy));
        });
    }

    /// Whole is what was seen to be: a change by others in between is no piece of ours.
    #[test]
    fn it_is_not_known_to_be_whole_if_others_change_the_tables_meanwhile() {
        with_base(|nft, state, base, policy| {
            let pieces = policy.add().pieces(PIECE);
            let held = state.lock_passing(&format!("{LOCK}{}", policy.name), soon());
            let ahead = Ahead {
                state,
                policy,
                _lock: held.expect("free"),
            };
            for (number, piece) in pieces.iter().enumerate() {
                if number == 2 {
                    run(
                        "nft",
                        &["flush", "chain", "inet", "egressway", &policy.name],
                    );
                    run("nft", &["add", "table", "ip", "others"]);
                }
                let ends = (number == 0, number + 1 == pieces.len());
                let mut ledger = Ledger::open(state, nft).expect("told");
                let done = ahead.piece(nft, &mut ledger, base.marker(), piece, ends);
                assert!(done.expect("is taken"));
            }
            assert!(!Ledger::open(state, nft).expect("told").has(&policy.name));
        });
    }

    /// Somebody else has changed the tables, so that nothing is known of what is there.
    #[test]
    fn one_that_a_pod_has_is_left_alone() {
        with_base(|nft, state, base, policy| {
            nft.commit(&policy.add()).expect("is taken");
            let pod = "pod-0123456789abcdef";
            run("nft", &["add", "chain", "inet", "egressway", pod]);
            let rule = [
                "add",
                "rule",
                "inet",
                "egressway",
                pod,
                "goto",
                &policy.name,
            ];
            run("nft", &rule);
            let before = nft.generation().expect("told");
            let ahead = put(nft, state, base.marker(), policy, soon()).expect("nothing to do");
            assert_eq!(nft.generation().expect("told"), before);
            assert!(is_whole(nft, policy));
            ahead.expect("it is big").take_back(nft, soon());
            assert!(is_whole(nft, policy), "its pod still has it");
        });
    }

    #[test]
    fn a_small_one_and_one_without_a_base_are_left_to_add() {
        in_fresh_netns(|| {
            let dir = tempfile::tempdir().expect("a directory");
            let state = StateDir::new(dir.path());
            let mut nft = Nft::open().expect("a socket");
            let base = Base::new(&[]);
            let policy = big();
            let ahead = put(&mut nft, &state, base.marker(), &policy, soon());
            assert!(ahead.is_ok());
            let tables = run("nft", &["list", "tables"]);
            assert_eq!(tables.trim(), "");
            let tier = TierRules::parse(Tier::Pod, "test", "deny", false).expect("valid rules");
            let facts = Facts::default();
            let small = Effective::new(vec![tier], DefaultAction::Deny, false, facts);
            let small = compile(&small.expect("no unknown names"), 100);
            let ahead = put(&mut nft, &state, base.marker(), &small, soon());
            assert!(ahead.is_ok_and(|ahead| ahead.is_none()));
        });
    }
}
