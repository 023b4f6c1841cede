//! What others break on this node is put back as soon as the kernel tells of it, and people are told.

mod ears;
mod undone;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::readiness::TaskReadiness as Ready;
use super::{Context, Error};
use crate::lifecycle::heal::{Found, Happened, Healer};
use crate::lifecycle::reconcile::{self, Area, Change, Did};
use crate::store::StateDir;
use ears::{Ears, Noticed};
use nft::Changed;
use rules::fault::printable;
use undone::Undone;

/// From one look to the next at least: what happens meanwhile is looked at once.
const PAUSE: Duration = Duration::from_millis(100);

/// How often everything is looked at, whatever has been heard.
const EVERY: Duration = Duration::from_secs(30);

/// How long until what may be somebody's unfinished work is looked at again.
const AGAIN: Duration = Duration::from_secs(1);

/// How many findings a line of the log names, and how many processes.
const NAMED: usize = 3;

/// Heals for ever.
pub(super) async fn keep(context: Context) -> Error {
    let config = &context.config;
    let state = StateDir::new(&config.state_dir);
    let dirs = {
        let state = state.clone();
        context.worker.run(move || state.watched_dirs())
    };
    let dirs = match dirs.await {
        Err(e) => return e,
        Ok(found) => found.unwrap_or_else(|e| {
            tracing::warn!("{e}");
            Vec::new()
        }),
    };
    let mut telling = Telling {
        part: context.readiness.part("node"),
        context: &context,
        undone: Undone::default(),
        said: BTreeSet::new(),
        last: String::new(),
    };
    // Before the first look, so that nothing is missed after it.
    let mut ears = Ears::open(dirs);
    let mut healer = Healer::new(state, config.policy_file.clone());
    let mut heard = Noticed {
        happened: Happened::anything(),
        by: Vec::new(),
    };
    let mut looked_at_all = Instant::now();
    loop {
        let began = Instant::now();
        let Noticed {
            mut happened,
            mut by,
        } = heard;
        if happened.anything {
            looked_at_all = began;
        }
        happened.contested = telling.undone.contested();
        let looked = context.worker.run(move || {
            let found = healer.look(&happened);
            (healer, found)
        });
        let found = match looked.await {
            Err(e) => return e,
            Ok((back, found)) => {
                healer = back;
                found
            }
        };
        let is_unfinished = found.as_ref().map_or(true, |found| found.is_unfinished);
        if !by.is_empty() {
            // They may have emptied live sets.
            let resolver = std::sync::Arc::clone(&context.resolver);
            if let Err(e) = context.worker.run(move || resolver.put_all_again()).await {
                return e;
            }
        }
        // A look for another reason may have found what is told only now.
        let later = ears.now();
        by.extend(later.by.iter().cloned());
        telling.tell(found, &by, began);
        tokio::time::sleep(PAUSE.saturating_sub(began.elapsed())).await;
        let longest = EVERY.saturating_sub(looked_at_all.elapsed());
        heard = match (later.happened.is_nothing(), is_unfinished) {
            (true, false) => ears.hear(longest).await,
            (true, true) => ears.hear(longest.min(AGAIN)).await,
            (false, _) => later,
        };
    }
}

struct Telling<'a> {
    part: Ready,
    context: &'a Context,
    undone: Undone,
    /// What could not be put back, so that it is said once.
    said: BTreeSet<(String, String)>,
    /// Who has changed the tables last.
    last: String,
}

impl Telling<'_> {
    fn tell(&mut self, found: Result<Found, reconcile::Error>, by: &[Changed], began: Instant) {
        let found = match found {
            Ok(found) => found,
            Err(e) => {
                self.part
                    .behind(format!("cannot watch for changes by others: {e}"));
                return;
            }
        };
        if !by.is_empty() {
            self.last = format!(", last by {}", named(by));
        }
        self.undone.note(&found.changes, began);
        for part in [Area::Rules, Area::Guard, Area::EgressIps, Area::Records] {
            self.tell_mended(part, &found.changes, by, began);
        }
        self.tell_left(found.changes, found.is_all);
        match self.undone.complaint(&self.last, EVERY) {
            Some(complaint) => self.part.behind(complaint),
            None => self.part.ready(),
        }
    }

    fn tell_mended(&self, part: Area, changes: &[Change], by: &[Changed], began: Instant) {
        let mended = changes.iter();
        let mended: Vec<&Change> = mended
            .filter(|change| change.part == part && change.did == Did::Repaired)
            .collect();
        if mended.is_empty() {
            return;
        }
        mended
            .iter()
            .for_each(|_| self.context.counters.mended(part.into()));
        let whats = mended.iter().take(NAMED);
        let whats: Vec<String> = whats.map(|c| format!("{}: {}", c.what, c.why)).collect();
        let more = match mended.len().saturating_sub(NAMED) {
            0 => String::new(),
            more => format!("; and {more} more"),
        };
        // Who changes the tables is told by the kernel; of devices and files it is not known.
        let by = if part == Area::Rules { by } else { &[] };
        let after = match by {
            [] => String::new(),
            by => format!(" after {} changed the tables", named(by)),
        };
        let whats = whats.join("; ");
        let ms = began.elapsed().as_millis();
        tracing::warn!("restored{after}, in {ms} ms: {whats}{more}");
        let by: BTreeSet<String> = by.iter().map(|by| printable(&by.name)).collect();
        let by = match by.is_empty() {
            true => String::new(),
            false => format!(" after {} changed the tables", listed(by)),
        };
        let (reason, action) = match part {
            Area::EgressIps => ("EgressIPLost", "RestoreEgressIP"),
            _ => ("NotEnforced", "RestoreRules"),
        };
        let note = format!("restored{by}: {whats}{more}");
        self.context.teller.warn_of_node(reason, action, note);
    }

    /// What nobody can put back from here, once each time it begins.
    fn tell_left(&mut self, changes: Vec<Change>, is_all: bool) {
        let mut said = BTreeSet::new();
        for change in changes.into_iter().filter(|c| c.did != Did::Repaired) {
            let key = (change.what, change.why);
            if !self.said.contains(&key) && !said.contains(&key) {
                let (what, why) = &key;
                tracing::warn!("not restored: {what}: {why}");
                let reason = match change.part {
                    Area::EgressIps => "EgressIPLost",
                    _ => "NotEnforced",
                };
                let note = format!("{what}: {why}");
                self.context.teller.warn_of_node(reason, "CheckNode", note);
            }
            said.insert(key);
        }
        if is_all {
            self.said.clear();
        }
        self.said.extend(said);
    }
}

/// `nft (process 4711)`; the number is the one that the first namespace of processes has for it.
fn named(by: &[Changed]) -> String {
    let all: BTreeSet<String> = by
        .iter()
        .map(|by| match by.name.as_str() {
            "" => "somebody".to_owned(),
            name => format!("{} (process {})", printable(name), by.pid),
        })
        .collect();
    listed(all)
}

fn listed(all: BTreeSet<String>) -> String {
    let more = all.len().saturating_sub(NAMED);
    let first: Vec<String> = all.into_iter().take(NAMED).collect();
    match more {
        0 => first.join(", "),
        more => format!("{} and {more} more", first.join(", ")),
    }
}
