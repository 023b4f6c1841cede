//! The program, the kubeconfig and our entry in the conflist: put in place, and put back.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::counters::Mended;
use super::dirs::{Dirs, TICK};
use super::keeper::{AtConflist, Keeper};
use super::readiness::Status;
use super::{Context, Error};
use crate::setup::confdir::ConfDir;
use crate::setup::config::Config;
use crate::setup::conflist::{EntryFault, PluginEntry};
use crate::setup::coverage;
use crate::setup::files::FileError;
use crate::setup::program::{self, InPlace, InstalledProgram};
use crate::store::StateDir;
use rules::fault::shown;

/// Keeps them for ever. The entry is put in when there is a policy, and not before.
pub(super) async fn keep(context: Context, entry: PluginEntry) -> Error {
    let (program, conflist) = (
        context.readiness.part("program"),
        context.readiness.part("conflist"),
    );
    let mut policy = context.policy.subscribe();
    let config = Arc::clone(&context.config);
    let dirs = config.program().parent().map(Path::to_owned);
    let mut dirs = Dirs::new(dirs.into_iter().chain([config.conf_dir.clone()]));
    let mut keeping = Keeping::new(config, entry);
    loop {
        let has_policy = *policy.borrow_and_update();
        let looked = context.worker.run(move || {
            let outcome = keeping.look(has_policy);
            (keeping, outcome)
        });
        let outcome = match looked.await {
            Ok((back, outcome)) => {
                keeping = back;
                outcome
            }
            Err(e) => return e,
        };
        match outcome.program {
            Ok(()) => program.ready(),
            Err(e) => program.failed(e),
        }
        conflist.set(outcome.conflist);
        for (what, note) in outcome.mended {
            context.counters.mended(what);
            let teller = &context.teller;
            teller.warn_of_node("NotEnforced", "RestoreInstallation", note);
        }
        tokio::select! {
            () = dirs.changed(outcome.wait) => {}
            _ = policy.changed(), if !has_policy => {}
        }
    }
}

/// How everything stands after one look.
struct AfterLook {
    program: Result<(), String>,
    conflist: Status,
    /// When to look again at the latest.
    wait: Duration,
    mended: Vec<(Mended, String)>,
}

struct Keeping {
    config: Arc<Config>,
    program: InstalledProgram,
    confs: ConfDir,
    entry: PluginEntry,
    keeper: Keeper,
    /// What was said last about files passed over, so that it is said once.
    said: Vec<String>,
    /// What others had undone, in this look.
    mended: Vec<(Mended, String)>,
}

impl Keeping {
    fn new(config: Arc<Config>, entry: PluginEntry) -> Self {
        Keeping {
            program: InstalledProgram::at(config.program()),
            confs: config.confs(),
            config,
            entry,
            keeper: Keeper::default(),
            said: Vec::new(),
            mended: Vec::new(),
        }
    }

    /// Looks once, does what is due, and says what is new.
    fn look(&mut self, has_policy: bool) -> AfterLook {
        let program = self.put_program().map_err(|e| e.to_string());
        let mut wait = TICK;
        let conflist = match self
            .account()
            .and_then(|()| self.step(has_policy, &mut wait))
        {
            Ok(status) => status,
            // A full disk, say, may have room again later.
            Err(e) => Status::Failed(e.to_string()),
        };
        AfterLook {
            program,
            conflist,
            wait,
            mended: std::mem::take(&mut self.mended),
        }
    }

    fn put_program(&mut self) -> Result<(), program::Error> {
        let path = shown(self.program.path());
        let done = match self.program.put()? {
            InPlace::Same => return Ok(()),
            InPlace::Nothing => "removed",
            InPlace::Other => "replaced",
        };
        let note = format!("restored {path}: something had {done} it");
        tracing::warn!("{note}");
        self.mended.push((Mended::Program, note));
        Ok(())
    }

    /// The certificates may have changed.
    fn account(&self) -> Result<(), FileError> {
        match &self.config.cluster {
            Some(cluster) => cluster
                .account
                .copy_to(&self.config.own_dir(), None)
                .map(drop),
            None => Ok(()),
        }
    }

    fn step(&mut self, has_policy: bool, wait: &mut Duration) -> Result<Status, FileError> {
        let look = self.confs.look()?;
        if !has_policy {
            return Ok(match (&look.found, self.confs.lack(&self.entry, &look)) {
                (Some(found), None) => Status::Behind(format!(
                    "egressway is in {}, but there is no policy",
                    shown(&found.path)
                )),
                _ => Status::Failed(
                    "egressway is not in the conflist, since there is no policy".to_owned(),
                ),
            });
        }
        let now = Instant::now();
        let step = self.keeper.step(&self.confs, &self.entry, &look, now)?;
        let mut news: Vec<String> = look.skipped.iter().map(ToString::to_string).collect();
        let nothing = format!(
            "waiting for the primary CNI plugin: {} has no configuration that a runtime could use{}",
            shown(&self.confs.dir),
            look.reasons()
        );
        if step == AtConflist::Nothing && news.is_empty() {
            news.push(nothing.clone());
        }
        if news != self.said {
            news.iter().for_each(|line| tracing::warn!("{line}"));
            self.said = news;
        }
        Ok(match step {
            AtConflist::Nothing => Status::Failed(nothing),
            AtConflist::Wait(until) => {
                *wait = until.saturating_duration_since(now);
                let path = look.found.map(|found| found.path).unwrap_or_default();
                Status::Failed(self.keeper.complaint(&path).unwrap_or_default())
            }
            AtConflist::Fine(path) => self.stands(&path),
            AtConflist::Put { path, lack, again } => {
                say(&path, lack, again);
                if again {
                    let path = shown(&path);
                    let note =
                        format!("restored egressway's entry in {path}: something had undone it");
                    self.mended.push((Mended::Conflist, note));
                }
                self.tell_uncovered();
                self.stands(&path)
            }
        })
    }

    /// The entry is there; whether it stays, the last minute tells.
    fn stands(&self, path: &Path) -> Status {
        match self.keeper.complaint(path) {
            None => Status::Ready,
            Some(complaint) => Status::Failed(complaint),
        }
    }

    fn tell_uncovered(&self) {
        match coverage::uncovered(
            &StateDir::new(&self.config.state_dir),
            coverage::CNI_CACHE.as_ref(),
        ) {
            Ok(names) => {
                if let Some(sentence) = coverage::sentence(&names) {
                    tracing::warn!("{sentence}");
                }
            }
            Err(error) => tracing::warn!("cannot tell which pods are not covered: {error}"),
        }
    }
}

fn say(path: &Path, lack: EntryFault, again: bool) {
    let path = shown(path);
    match (lack, again) {
        (EntryFault::Missing, false) => tracing::info!("added egressway to {path}"),
        (EntryFault::Missing, true) => {
            tracing::warn!("restored egressway's entry in {path}: something had removed it");
        }
        (EntryFault::NotLast, _) => tracing::warn!(
            "moved egressway to the end of {path}: a plugin behind it could change what it has enforced"
        ),
        (EntryFault::Twice, _) => {
            tracing::warn!("removed the second entry of egressway from {path}")
        }
        (EntryFault::Different, _) => tracing::info!("updated egressway's entry in {path}"),
    }
}
