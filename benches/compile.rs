//! How long the library takes from a policy file to the kernel's operations, without the kernel.
//!
//! Usage: `compile FILE ROUNDS`. Prints a line for each step of each round: `read` (the file and the
//! checks of its texts) or `compile`, and nanoseconds. `benches/run.sh` calls it.

use std::hint::black_box;
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use egressway::plan;
use egressway::source::{self, PolicyFile};

const NAMESPACE: &str = "bench";
const LOG_GROUP: u16 = 100;

fn main() -> ExitCode {
    // `cargo bench` adds an option of its own.
    let arguments: Vec<String> = std::env::args()
        .skip(1)
        .filter(|a| a != "--bench")
        .collect();
    let [file, rounds] = arguments.as_slice() else {
        eprintln!("usage: compile FILE ROUNDS");
        return ExitCode::from(2);
    };
    let Ok(rounds) = rounds.parse() else {
        eprintln!("ROUNDS: a number");
        return ExitCode::from(2);
    };
    for _ in 0..rounds {
        if let Err(error) = measure(Path::new(file)) {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

fn measure(file: &Path) -> Result<(), source::SourceError> {
    let began = Instant::now();
    let file = PolicyFile::load(file)?;
    let policy = source::resolve(&file, NAMESPACE, &file.namespace(NAMESPACE), Ok(None))?;
    println!("read {}", began.elapsed().as_nanos());
    let began = Instant::now();
    black_box(plan::compile(black_box(&policy.effective), LOG_GROUP));
    println!("compile {}", began.elapsed().as_nanos());
    Ok(())
}
