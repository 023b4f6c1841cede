//! With `CNI_COMMAND` in the environment a CNI plugin, else a command-line tool.

use std::env;
use std::io::{self, Write};
use std::process::ExitCode;

fn main() -> ExitCode {
    if env::var_os("CNI_COMMAND").is_some_and(|command| !command.is_empty()) {
        return egressway::cni::main();
    }
    if env::args_os().len() <= 1 {
        // As every CNI plugin does when it is started by hand.
        let _ = io::stderr().write_all(egressway::cni::about().as_bytes());
        return ExitCode::SUCCESS;
    }
    egressway::cli::main(egressway::agent::main)
}
