//! `egressway completions` and `egressway man`: what a package installs beside the program, made
//! from the same definitions as `--help` when the program is built (install/prepare.sh, `build`).
//!
//! Not by a build script of Cargo's: the definitions use types of the whole program (rules' grammar,
//! addresses, formats), which such a script would have to compile a second time.

use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;

use clap::CommandFactory;
use clap_complete::Shell;

/// Print a completion script for a shell.
///
/// Examples:
///
///   egressway completions bash > /usr/share/bash-completion/completions/egressway
///
///   egressway completions zsh > "${fpath[1]}/_egressway"
#[allow(rustdoc::broken_intra_doc_links)] // a shell's word, no link
#[derive(Debug, clap::Args)]
pub(super) struct Completions {
    /// The shell
    shell: Shell,
}

/// Write the manual pages, one a subcommand.
///
/// Example: egressway man --out /usr/share/man/man1
#[derive(Debug, clap::Args)]
pub(super) struct Man {
    /// The directory for the pages; it is created if it does not exist
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

pub(super) fn completions(args: &Completions) -> io::Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(
        args.shell,
        &mut super::Cli::command(),
        "egressway",
        &mut script,
    );
    match io::stdout().write_all(&script) {
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        outcome => outcome,
    }
}

pub(super) fn man(args: &Man) -> io::Result<()> {
    fs::create_dir_all(&args.out)?;
    clap_mangen::generate_to(super::Cli::command(), &args.out)
}
