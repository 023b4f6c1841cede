//! The guard's program in this kernel: made once a boot, and then found by its number.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::{fs, io};

use netlink::bpf::{Program, Tag};

use super::asm::Instruction;
use super::btf::{self, Btf};
use super::program::{LICENSE, Layout, NAME, Reading, assemble};
use crate::store::{GuardFallback, GuardProgram, StateDir};

/// The kernel's own types.
const BTF: &str = "/sys/kernel/btf/vmlinux";
/// Whether the kernel keeps secrets from root: `none integrity [confidentiality]`.
const LOCKDOWN: &str = "/sys/kernel/security/lockdown";
/// A number that the kernel makes at each start.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// Why this kernel can't have the program.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)] // each message says what it is about
pub enum Unavailable {
    #[error("this machine's byte order is one for which it was never tried")]
    BigEndian,
    #[error("this kernel has no type information ({BTF}: {0}); CONFIG_DEBUG_INFO_BTF is needed")]
    NoTypes(#[source] io::Error),
    #[error(transparent)]
    Types(#[from] btf::Error),
    #[error(
        "this kernel is locked down for confidentiality ({LOCKDOWN}), and lets no program look at its packets: {0}"
    )]
    LockedDown(#[source] netlink::Error),
    #[error("{0}")]
    Refused(#[source] netlink::Error),
    #[error("{what} is needed: {source}")]
    NoClassifier {
        what: &'static str,
        #[source]
        source: netlink::Error,
    },
}

/// What is kept for as long as the machine runs: the code as [`fingerprint`] has it.
type StoredProgram = GuardProgram<Layout, Reading>;

/// The program, taken by its number if it is still there, made if not.
///
/// # Errors
/// Why this kernel can't have it.
pub fn program(state: &StateDir) -> Result<Program, Unavailable> {
    let boot = fs::read_to_string(BOOT_ID).unwrap_or_default();
    let known = known(state, &boot);
    if let Some(program) = known.as_ref().and_then(loaded) {
        return Ok(program);
    }
    let layout = match &known {
        Some(known) => known.layout,
        None => layout()?,
    };
    let (program, reading, code) = load(&layout)?;
    let known = StoredProgram {
        boot,
        layout,
        reading,
        code,
        id: program.id,
        tag: program.tag.to_string(),
    };
    // Without it, the next call makes the program again.
    let written = state.write_guard_program(&known);
    written.unwrap_or_else(|e| tracing::warn!("{e}"));
    Ok(program)
}

/// The program, made anew, for who has no state directory.
///
/// # Errors
/// As [`program`].
pub fn fresh_program() -> Result<(Program, Reading), Unavailable> {
    let (program, reading, _) = load(&layout()?)?;
    Ok((program, reading))
}

/// Says in the log why pods get [`super::Mode::Resolve`] instead. Once in this boot: each pod that starts has
/// the same to say.
pub(super) fn tell_once(state: &StateDir, reason: &str) {
    let fallback = GuardFallback {
        boot: fs::read_to_string(BOOT_ID).unwrap_or_default(),
        reason: reason.to_owned(),
    };
    if state.read_guard_fallback().ok().flatten().as_ref() == Some(&fallback) {
        return;
    }
    tracing::warn!("{}", super::fallback(reason));
    let written = state.write_guard_fallback(&fallback);
    written.unwrap_or_else(|e| tracing::warn!("{e}"));
}

fn known(state: &StateDir, boot: &str) -> Option<StoredProgram> {
    let read = state.read_guard_program();
    let known: Option<StoredProgram> = read.unwrap_or_else(|e| {
        tracing::debug!("{e}; rebuilding the guard's program");
        None
    });
    known.filter(|known| known.boot == boot && !boot.is_empty())
}

/// The one that is known, if the kernel has it and it is what this version would make.
fn loaded(known: &StoredProgram) -> Option<Program> {
    if fingerprint(&assemble(&known.layout, known.reading)) != known.code {
        return None;
    }
    let found = Program::by_id(known.id).unwrap_or_else(|e| {
        tracing::debug!("{e}");
        None
    });
    let tag: Option<Tag> = known.tag.parse().ok();
    found.filter(|program| Some(program.tag) == tag)
}

fn layout() -> Result<Layout, Unavailable> {
    if cfg!(target_endian = "big") {
        return Err(Unavailable::BigEndian);
    }
    let bytes = fs::read(BTF).map_err(Unavailable::NoTypes)?;
    Ok(Layout::read(&Btf::new(&bytes)?)?)
}

fn load(layout: &Layout) -> Result<(Program, Reading, u64), Unavailable> {
    let mut refused = None;
    for reading in layout.readings() {
        let code = assemble(layout, reading);
        match Program::load(NAME, LICENSE, &code) {
            Ok(program) => return Ok((program, reading, fingerprint(&code))),
            Err(e) => {
                tracing::debug!(?reading, "{e}");
                refused = Some(e);
            }
        }
    }
    let nothing = || Unavailable::Types(btf::Error::Missing("way to read a packet".to_owned()));
    let lockdown = fs::read_to_string(LOCKDOWN).unwrap_or_default();
    Err(match refused {
        None => nothing(),
        Some(e) if lockdown.contains("[confidentiality]") => Unavailable::LockedDown(e),
        Some(e) => Unavailable::Refused(e),
    })
}

fn fingerprint(code: &[Instruction]) -> u64 {
    let mut hasher = DefaultHasher::new();
    code.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state() -> (tempfile::TempDir, StateDir) {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::new(dir.path());
        (dir, state)
    }

    fn kept(state: &StateDir) -> StoredProgram {
        state.read_guard_program().unwrap().unwrap()
    }

    #[test]
    fn the_program_is_made_once_while_somebody_has_it() {
        let (_dir, state) = state();
        let first = program(&state).unwrap();
        assert_eq!(program(&state).unwrap().id, first.id);
        assert_eq!(kept(&state).tag, first.tag.to_string());
        // Nobody has it any more: made anew, without looking at the types.
        let (id, tag) = (first.id, first.tag);
        drop(first);
        let gone = || Program::by_id(id).unwrap().is_none();
        while !gone() {
            std::thread::yield_now();
        }
        let second = program(&state).unwrap();
        assert_ne!(second.id, id);
        assert_eq!(second.tag, tag);
        assert_eq!(kept(&state).id, second.id);
    }

    /// Another program by that number, another boot, another version of this one, a damaged file.
    #[test]
    fn what_is_not_the_programs_own_is_not_taken() {
        let (dir, state) = state();
        let own = program(&state).unwrap();
        let exit = [[0xb7, 0, 0, 0, 0, 0, 0, 0], [0x95, 0, 0, 0, 0, 0, 0, 0]];
        let other = Program::load("other", c"GPL", &exit).unwrap();
        type Change = fn(&mut StoredProgram);
        let changes: [Change; 3] = [
            |known| known.boot = "another".to_owned(),
            |known| known.code ^= 1,
            |known| known.tag = "0123456789abcdef".to_owned(),
        ];
        for change in changes {
            let mut known = kept(&state);
            known.id = own.id;
            known.tag = own.tag.to_string();
            change(&mut known);
            state.write_guard_program(&known).unwrap();
            let made = program(&state).unwrap();
            assert_ne!(made.id, own.id);
            assert_eq!(made.tag, own.tag);
        }
        let mut known = kept(&state);
        known.id = other.id;
        state.write_guard_program(&known).unwrap();
        assert_ne!(program(&state).unwrap().id, other.id);
        let path = dir.path().join("guard/program.json");
        let others = fs::read_to_string(&path)
            .unwrap()
            .replace("\"version\":1", "\"version\":99");
        fs::write(&path, &others).unwrap();
        assert_ne!(program(&state).unwrap().id, own.id);
        assert_eq!(
            fs::read_to_string(&path).unwrap(),
            others,
            "it is left alone"
        );
        fs::write(dir.path().join("guard/program.json"), "{").unwrap();
        assert_eq!(program(&state).unwrap().tag, own.tag);
    }

    #[test]
    fn a_state_directory_that_takes_nothing_is_no_reason_to_fail() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert!(program(&StateDir::new(file.path())).is_ok());
    }
}
