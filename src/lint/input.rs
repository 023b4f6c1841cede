//! Which files are read.

use std::collections::HashSet;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// Bytes that a file may have. Whole clusters written into one file are smaller.
const LARGEST: u64 = 64 << 20;

/// Names of files in a folder that are read.
const EXTENSIONS: [&str; 3] = ["yaml", "yml", "json"];

/// The byte order mark.
const BOM: char = '\u{feff}';
/// The same as UTF-16 has it, in both orders.
const UTF16: [&[u8]; 2] = [b"\xff\xfe", b"\xfe\xff"];

/// What stands for stdin on the command line, and what findings call it.
pub const STDIN: &str = "-";

/// One text to check.
#[derive(Debug)]
pub struct Input {
    /// As findings show it: the path as it was given, without a leading `./`.
    pub name: String,
    /// All of it, without a byte order mark.
    pub text: String,
}

/// Why something could not be read.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)] // each message says what it is about
pub enum InputError {
    #[error("cannot read {name}: {cause}")]
    Unreadable {
        name: String,
        #[source]
        cause: io::Error,
    },
    #[error("cannot read {name}: it is not UTF-8, first in line {line}")]
    NoText { name: String, line: usize },
    #[error("cannot read {name}: it is UTF-16, as PowerShell's `>` writes; save it as UTF-8")]
    Utf16 { name: String },
    #[error("cannot read {name}: it has more than {} MiB", LARGEST >> 20)]
    TooLarge { name: String },
    #[error(
        "{name} has no manifests: no file below it ends in .yaml, .yml or .json; give another folder, or the files"
    )]
    NoManifests { name: String },
    #[error("{name} is no policy file: it has no `kind: {}`", crate::source::KIND)]
    NoPolicy { name: String },
}

/// Reads all that the paths stand for, each file once.
pub fn read_all(paths: &[PathBuf]) -> (Vec<Input>, Vec<InputError>) {
    let mut files: Vec<PathBuf> = Vec::new();
    let mut errors = Vec::new();
    for path in paths {
        if path.is_dir() {
            let before = (files.len(), errors.len());
            walk(path, &mut files, &mut errors);
            if before == (files.len(), errors.len()) {
                let name = name_of(path);
                errors.push(InputError::NoManifests { name });
            }
        } else {
            files.push(path.clone());
        }
    }
    let mut inputs: Vec<Input> = Vec::new();
    let mut known = HashSet::new();
    for file in files {
        if !known.insert(name_of(&file)) {
            continue;
        }
        match read(&file) {
            Ok(input) => inputs.push(input),
            Err(error) => errors.push(error),
        }
    }
    (inputs, errors)
}

/// Reads one file, or stdin.
///
/// # Errors
/// It can't be read, is no text, or is longer than any manifest.
pub fn read(path: &Path) -> Result<Input, InputError> {
    let name = name_of(path);
    let unreadable = |cause| InputError::Unreadable {
        name: name.clone(),
        cause,
    };
    let mut bytes = Vec::new();
    let length = if path.as_os_str() == STDIN {
        io::stdin().take(LARGEST + 1).read_to_end(&mut bytes)
    } else {
        let file = fs::File::open(path).map_err(unreadable)?;
        file.take(LARGEST + 1).read_to_end(&mut bytes)
    };
    if length.map_err(unreadable)? as u64 > LARGEST {
        return Err(InputError::TooLarge { name });
    }
    if UTF16.iter().any(|mark| bytes.starts_with(mark)) {
        return Err(InputError::Utf16 { name });
    }
    match String::from_utf8(bytes) {
        Ok(mut text) => {
            // No character of the text: editors and SARIF (2.1.0, 3.30.2) do not count it.
            if text.starts_with(BOM) {
                text.drain(..BOM.len_utf8());
            }
            Ok(Input { name, text })
        }
        Err(error) => {
            let good = &error.as_bytes()[..error.utf8_error().valid_up_to()];
            let line = good.iter().filter(|byte| **byte == b'\n').count() + 1;
            Err(InputError::NoText { name, line })
        }
    }
}

/// The files of a folder and those below, in the order of their names. Hidden folders and links to folders are left out.
fn walk(folder: &Path, files: &mut Vec<PathBuf>, errors: &mut Vec<InputError>) {
    let entries = fs::read_dir(folder).and_then(|entries| entries.collect::<Result<Vec<_>, _>>());
    let mut entries = match entries {
        Ok(entries) => entries,
        Err(cause) => {
            let name = name_of(folder);
            errors.push(InputError::Unreadable { name, cause });
            return;
        }
    };
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let path = entry.path();
        let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
        let hidden = entry.file_name().as_encoded_bytes().starts_with(b".");
        if is_folder && !hidden {
            walk(&path, files, errors);
        } else if is_manifest(&path) && path.is_file() {
            files.push(path);
        }
    }
}

fn is_manifest(path: &Path) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str());
    extension.is_some_and(|is| {
        EXTENSIONS
            .iter()
            .any(|wanted| is.eq_ignore_ascii_case(wanted))
    })
}

fn name_of(path: &Path) -> String {
    let path = path.strip_prefix("./").unwrap_or(path);
    path.display().to_string()
}
