//! This very program among the CNI plugins.

use std::fs::{self, Metadata};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::files::{self, FileError};
use rules::fault::shown;

/// Every build of this program has these bytes, and no other program does: so it is known again, also in
/// another version. A stranger's plugin may have the same name, and is never touched.
#[used]
static MARK: [u8; 48] = *b"egressway.dev/plugin 7f1d5c0e-8a4b-4e63-b8e4-09c";

/// Why the program can't be put in its place.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)] // each message says what it is about
pub enum Error {
    #[error(
        "{} is not egressway but another program of that name, and is left alone: choose another directory (--cni-bin-dir), or remove it together with its entry in the conflist",
        shown(path)
    )]
    Stranger { path: PathBuf },
    #[error(transparent)]
    File(#[from] FileError),
}

/// What was found in its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InPlace {
    /// These very bytes.
    Same,
    /// Nothing.
    Nothing,
    /// Another version, or one that could not be started.
    Other,
}

/// What a file is, as long as nobody touches it.
type FileStamp = (u64, u64, u64, i64, i64, u32);

/// The program's place.
#[derive(Debug)]
pub struct InstalledProgram {
    path: PathBuf,
    /// How it looked when its bytes were last compared.
    seen: Option<FileStamp>,
    /// It was this program once: whoever puts something else there undoes our work.
    was_ours: bool,
}

impl InstalledProgram {
    /// `BIN_DIR/egressway`
    pub fn at(path: PathBuf) -> Self {
        InstalledProgram {
            path,
            seen: None,
            was_ours: false,
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Looks what is there; the bytes are read only if the file looks different than the last time.
    ///
    /// # Errors
    /// [`Error::Stranger`], or the disk refuses.
    pub fn look(&mut self) -> Result<InPlace, Error> {
        let Some(before) = seen(&self.path) else {
            self.seen = None;
            return Ok(InPlace::Nothing);
        };
        if self.seen == Some(before) {
            return Ok(InPlace::Same);
        }
        let Some(there) = files::read(&self.path)? else {
            return Ok(InPlace::Nothing); // it went meanwhile
        };
        let own = own()?;
        let executable = fs::metadata(&self.path).is_ok_and(|m| mode(&m) == 0o755);
        if there == own && executable {
            self.seen = Some(before);
            self.was_ours = true;
            return Ok(InPlace::Same);
        }
        if there != own && !self.was_ours && !is_ours(&there) {
            let path = self.path.clone();
            return Err(Error::Stranger { path });
        }
        Ok(InPlace::Other)
    }

    /// Puts this very program there, executable, unless it is there. Which version that is, older or
    /// newer, is for whoever started us to decide. Returns what was there.
    ///
    /// # Errors
    /// As [`InstalledProgram::look`].
    pub fn put(&mut self) -> Result<InPlace, Error> {
        let found = self.look()?;
        if found != InPlace::Same {
            if let Some(dir) = self.path.parent() {
                files::create_dir(dir)?;
            }
            files::replace(&self.path, &own()?, 0o755)?;
            // What is there now may be somebody else's already: the next look reads it.
            self.seen = None;
            self.was_ours = true;
        }
        Ok(found)
    }
}

fn own() -> Result<Vec<u8>, FileError> {
    let own = Path::new("/proc/self/exe");
    // It runs, so it is there.
    Ok(files::read(own)?.unwrap_or_default())
}

/// An empty file is nobody's program.
fn is_ours(bytes: &[u8]) -> bool {
    bytes.is_empty() || bytes.windows(MARK.len()).any(|window| window == MARK)
}

fn seen(path: &Path) -> Option<FileStamp> {
    let m = fs::metadata(path).ok()?;
    let changed = (m.ctime(), m.ctime_nsec());
    Some((m.dev(), m.ino(), m.size(), changed.0, changed.1, mode(&m)))
}

fn mode(metadata: &Metadata) -> u32 {
    metadata.permissions().mode() & 0o7777
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    fn place() -> (tempfile::TempDir, InstalledProgram) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("bin/egressway");
        (dir, InstalledProgram::at(path))
    }

    #[test]
    fn it_is_put_there_once_and_again_when_it_is_gone_or_another() {
        let (_dir, mut program) = place();
        let path = program.path().to_owned();
        assert_eq!(program.put().unwrap(), InPlace::Nothing);
        assert_eq!(program.put().unwrap(), InPlace::Same);
        assert_eq!(mode(&fs::metadata(&path).unwrap()), 0o755);
        fs::remove_file(&path).unwrap();
        assert_eq!(program.put().unwrap(), InPlace::Nothing);
        fs::write(&path, "another").unwrap();
        assert_eq!(program.put().unwrap(), InPlace::Other);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert_eq!(program.put().unwrap(), InPlace::Other);
        assert_eq!(fs::read(&path).unwrap(), own().unwrap());
        assert_eq!(program.put().unwrap(), InPlace::Same);
    }

    /// Who waits for it to be back may undo that at once, before the disk has it.
    #[test]
    fn what_is_put_there_at_the_very_moment_is_noticed() {
        let (_dir, mut program) = place();
        let path = program.path().to_owned();
        program.put().unwrap();
        let length = own().unwrap().len() as u64;
        for _ in 0..20 {
            fs::remove_file(&path).unwrap();
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    let is_back = || fs::metadata(&path).is_ok_and(|m| m.len() == length);
                    while !is_back() {
                        std::hint::spin_loop();
                    }
                    fs::write(&path, "another").unwrap();
                });
                assert_eq!(program.put().unwrap(), InPlace::Nothing);
            });
            assert_eq!(program.put().unwrap(), InPlace::Other);
        }
    }

    #[test]
    fn another_version_is_replaced_and_a_stranger_is_not() {
        let (_dir, mut program) = place();
        let path = program.path().to_owned();
        fs::create_dir(path.parent().unwrap()).unwrap();
        for strange in [&b"#!/bin/sh\n"[..], &fs::read("/bin/sleep").unwrap()] {
            fs::write(&path, strange).unwrap();
            let refused = program.put().unwrap_err().to_string();
            assert!(
                refused.contains("another program of that name"),
                "{refused}"
            );
            assert_eq!(fs::read(&path).unwrap(), strange);
        }
        let older = [b"an older version ", &MARK[..], b" of this"].concat();
        fs::write(&path, older).unwrap();
        assert_eq!(program.put().unwrap(), InPlace::Other);
        assert_eq!(program.look().unwrap(), InPlace::Same);
    }

    #[test]
    fn a_running_program_is_replaced() {
        let (_dir, mut program) = place();
        let path = program.path().to_owned();
        program.put().unwrap();
        fs::copy("/bin/sleep", &path).unwrap();
        let mut running = Command::new(&path)
            .arg("60")
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let opened = fs::OpenOptions::new().write(true).open(&path);
        assert!(opened.is_err(), "text file busy");
        assert_eq!(program.put().unwrap(), InPlace::Other);
        assert_eq!(mode(&fs::metadata(&path).unwrap()), 0o755);
        let ended = running.try_wait().unwrap();
        assert!(ended.is_none(), "the old one still runs");
        running.kill().unwrap();
        running.wait().unwrap();
    }
}
