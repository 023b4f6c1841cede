//! The directory in which runtimes find their conflist: which file they would use, and our entry in it.

use std::fmt;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use super::conflist::{self, Conflist, EntryFault, ListFault, PluginEntry};
use super::files::{self, FileError};
use rules::fault::shown;

/// The configurations of a node.
#[derive(Debug, Clone)]
pub struct ConfDir {
    /// `/etc/cni/net.d`
    pub dir: PathBuf,
    /// Where plugins are looked for.
    pub bin_dirs: Vec<PathBuf>,
}

/// A file that was passed over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PassedOver {
    /// Which one.
    pub path: PathBuf,
    /// Why.
    pub why: String,
}

/// Why a file is passed over.
struct Unusable {
    why: String,
    /// The runtime uses it, only we cannot: the next file would be of no use.
    stop: bool,
}

impl From<ListFault> for Unusable {
    fn from(fault: ListFault) -> Self {
        Unusable {
            why: fault.to_string(),
            stop: matches!(fault, ListFault::Stranger(_)),
        }
    }
}

impl fmt::Display for PassedOver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is left as it is: it {}", shown(&self.path), self.why)
    }
}

/// The file that a runtime would use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuntimeFile {
    /// Where it is.
    pub path: PathBuf,
    /// Its text as a list; of a single plugin, the list that says the same.
    pub list: String,
    /// It holds a single plugin, not a list.
    pub single: bool,
}

/// What is in the directory.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Look {
    /// The file that a runtime would use, if there is one.
    pub found: Option<RuntimeFile>,
    /// Those before it that it could not use.
    pub skipped: Vec<PassedOver>,
}

impl Look {
    /// Why there is no file that could be used, in brackets; empty if there simply is none.
    pub fn reasons(&self) -> String {
        let reasons: Vec<String> = self.skipped.iter().map(ToString::to_string).collect();
        match reasons.is_empty() {
            true => String::new(),
            false => format!(" ({})", reasons.join("; ")),
        }
    }
}

/// What [`ConfDir::ensure`] did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ensured {
    /// Our entry is in this file, as it should be.
    Already(PathBuf),
    /// It was put into this file.
    Put(PathBuf),
    /// There is no file that could be used.
    Nothing,
}

/// The ending that hides a single plugin's file once a list says the same: `10-x.conf` has the first
/// place before `10-x.conflist`.
const ORIGINAL: &str = "original";

impl ConfDir {
    /// Finds the file that a runtime would use: the first in lexical order that ends in `.conf`,
    /// `.conflist` or `.json` and could be used (as go-cni and ocicni look for it; containerd stops at
    /// one that can't be parsed, CRI-O goes on).
    ///
    /// # Errors
    /// The directory can't be read. One that is missing is empty.
    pub fn look(&self) -> Result<Look, FileError> {
        let mut look = Look::default();
        for path in self.candidates()? {
            let Some(bytes) = files::read(&path)? else {
                continue; // it went meanwhile
            };
            match self.usable(&path, &bytes) {
                Ok(found) => {
                    look.found = Some(found);
                    break;
                }
                Err(Unusable { why, stop }) => {
                    look.skipped.push(PassedOver { path, why });
                    if stop {
                        break;
                    }
                }
            }
        }
        Ok(look)
    }

    fn candidates(&self) -> Result<Vec<PathBuf>, FileError> {
        let mut paths: Vec<PathBuf> = files::list(&self.dir)?
            .into_iter()
            .filter(|path| {
                let ending = path.extension().and_then(|e| e.to_str());
                matches!(ending, Some("conf" | "conflist" | "json")) && path.is_file()
            })
            .collect();
        paths.sort();
        Ok(paths)
    }

    /// Reads one file; the error says why no runtime could use it.
    fn usable(&self, path: &Path, bytes: &[u8]) -> Result<RuntimeFile, Unusable> {
        let text = str::from_utf8(bytes).map_err(|e| ListFault::NotJson(e.to_string()))?;
        let single = !is_list(path);
        let list = if single {
            conflist::from_single(text)?
        } else {
            text.to_owned()
        };
        let parsed = Conflist::parse(&list)?;
        parsed.check()?;
        let others: Vec<String> = parsed.others().map(str::to_owned).collect();
        match others.iter().find(|plugin| !self.has_plugin(plugin)) {
            None => Ok(RuntimeFile {
                path: path.to_owned(),
                list,
                single,
            }),
            Some(missing) => Err(Unusable {
                why: format!(
                    "names the plugin {missing:?}, which is not in {}",
                    for_people(&self.bin_dirs)
                ),
                stop: false,
            }),
        }
    }

    fn has_plugin(&self, name: &str) -> bool {
        let is_program = |dir: &PathBuf| {
            fs::metadata(dir.join(name))
                .is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
        };
        !name.contains('/') && self.bin_dirs.iter().any(is_program)
    }

    /// What our entry says now, if there is one.
    pub fn ours(&self) -> Option<serde_json::Value> {
        let found = self.look().ok()?.found?;
        Conflist::parse(&found.list).ok()?.ours()
    }

    /// What [`ConfDir::ensure`] would correct; none also if there is no list.
    pub fn lack(&self, entry: &PluginEntry, look: &Look) -> Option<EntryFault> {
        let found = look.found.as_ref()?;
        let list = Conflist::parse(&found.list).ok()?;
        list.lack(entry).ok()?
    }

    /// Makes our `entry` the last plugin of the list that a runtime would use.
    ///
    /// # Errors
    /// A file can't be read or written. It is untouched then.
    pub fn ensure(&self, entry: &PluginEntry, look: &Look) -> Result<Ensured, FileError> {
        let Some(found) = &look.found else {
            return Ok(Ensured::Nothing);
        };
        let list = match Conflist::parse(&found.list).and_then(|list| list.with(entry)) {
            Ok(Some(list)) => list,
            Ok(None) => return Ok(Ensured::Already(found.path.clone())),
            Err(_) => return Ok(Ensured::Nothing), // `look` would not have found it
        };
        let path = if found.single {
            found.path.with_extension("conflist")
        } else {
            found.path.clone()
        };
        self.write(&found.path, &path, &list)?;
        if found.single {
            files::rename(&found.path, &files::beside(&found.path, ORIGINAL))?;
        }
        Ok(Ensured::Put(path))
    }

    /// Writes a list with the owner and mode that `like` has.
    fn write(&self, like: &Path, path: &Path, list: &str) -> Result<(), FileError> {
        let like = fs::metadata(like);
        let mode = like
            .as_ref()
            .map_or(0o644, |m| m.permissions().mode() & 0o777);
        files::replace(path, list.as_bytes(), mode)?;
        if let Ok(like) = like
            && (like.uid(), like.gid()) != (0, 0)
        {
            // Runtimes are root: it is only a courtesy to whoever wrote the file.
            let _ = chown(path, Some(like.uid()), Some(like.gid()));
        }
        Ok(())
    }

    /// Takes our entry out of every list, and gives a single plugin's file its name back. Returns the
    /// files that were changed, and what could not be.
    pub fn remove(&self) -> (Vec<PathBuf>, Vec<String>) {
        let (mut changed, mut failures) = (Vec::new(), Vec::new());
        let paths = self.candidates().unwrap_or_else(|e| {
            failures.push(e.to_string());
            Vec::new()
        });
        for path in paths.into_iter().filter(|path| is_list(path)) {
            match self.remove_from(&path) {
                Ok(true) => changed.push(path),
                Ok(false) => {}
                Err(e) => failures.push(e),
            }
        }
        (changed, failures)
    }

    fn remove_from(&self, path: &Path) -> Result<bool, String> {
        let bytes = files::read(path).map_err(|e| e.to_string())?;
        let text = bytes.and_then(|bytes| String::from_utf8(bytes).ok());
        // What can't be read as a list has no entry of ours.
        let Some(list) = text.as_deref().and_then(|text| Conflist::parse(text).ok()) else {
            return Ok(false);
        };
        let without = list
            .without()
            .map_err(|why| format!("{} {why}: remove it by hand", shown(path)))?;
        let Some(without) = without else {
            return Ok(false);
        };
        self.write(path, path, &without)
            .and_then(|()| self.restore(path, &without))
            .map_err(|e| e.to_string())?;
        Ok(true)
    }

    /// Gives the file from which a list was made its name back, unless the list has changed since.
    fn restore(&self, list: &Path, text: &str) -> Result<(), FileError> {
        for ending in ["conf", "json"] {
            let single = list.with_extension(ending);
            let original = files::beside(&single, ORIGINAL);
            let Some(bytes) = files::read(&original)? else {
                continue;
            };
            let said = str::from_utf8(&bytes).ok();
            let same = said.and_then(|said| conflist::from_single(said).ok());
            if single.exists() || same.as_deref() != Some(text) {
                files::remove(&original)?;
            } else {
                // In this order: the directory is never without a configuration.
                files::rename(&original, &single)?;
                files::remove(list)?;
            }
        }
        Ok(())
    }
}

fn is_list(path: &Path) -> bool {
    path.extension().is_some_and(|ending| ending == "conflist")
}

fn for_people(dirs: &[PathBuf]) -> String {
    let dirs: Vec<String> = dirs.iter().map(|dir| shown(dir)).collect();
    dirs.join(" or ")
}

#[cfg(test)]
mod tests;
