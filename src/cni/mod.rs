//! The CNI side: the environment and stdin in, one JSON document out.
//!
//! [`env`](mod@env) and [`conf`](mod@crate::conf) check everything that the runtime says before a verb sees it. A verb does
//! its work and returns; `answer` prints, in time and once.

pub mod env;

mod add;
mod answer;
mod check;
mod del;
mod gc;
mod limit;
mod status;

use std::process::ExitCode;
use std::time::Instant;
use std::{env as process, io};

use serde::Serialize;

pub use env::Invocation;

use limit::Call;

use crate::conf::{self, Command, Conf, DEADLINE, RawConf};
use crate::logging;
use crate::refusal::CniError;
use crate::refusal::version::CniVersion;

/// One call as a CNI plugin.
pub fn main() -> ExitCode {
    let deadline = Instant::now() + DEADLINE;
    answer::answer(|answered| serve(answered, deadline))
}

/// Returns what goes to stdout.
fn serve(answered: &Call, deadline: Instant) -> Result<Vec<u8>, CniError> {
    let call = Invocation::from_env(|name| process::var_os(name))?;
    if call.command == Command::Version {
        return Ok(versions());
    }
    let stdin = conf::read(io::stdin().lock())?;
    let entry = RawConf::decode(&stdin)?;
    if let Some(version) = entry.version() {
        answered.set_version(version);
    }
    let conf = Conf::new(&entry, call.command)?;
    logging::init(conf.log_level, conf.log_file.as_deref());
    // An error-level span, so that warnings have its fields, too.
    let span = tracing::error_span!(
        "cni",
        command = %call.command,
        container = call.container_id,
        ifname = call.ifname,
        namespace = call.args.namespace,
        pod = call.args.name,
    );
    let title = format!("{} of {}", call.command, call.container_id);
    answered.set_span(span.clone(), &title);
    let _span = span.entered();
    for warning in &conf.warnings {
        tracing::warn!("conflist: {warning}");
    }
    match call.command {
        Command::Add => add::add(&call, &conf, deadline)?,
        Command::Del => del::del(&call, &conf, deadline)?,
        Command::Check => check::check(&call, &conf, deadline)?,
        Command::Gc => gc::gc(&call, &conf, deadline)?,
        Command::Status => status::status(&call, &conf, deadline)?,
        Command::Version => {}
    }
    tracing::info!("done");
    Ok(match (call.command, conf.prev_result) {
        (Command::Add, Some(prev_result)) => prev_result.get().as_bytes().to_vec(),
        _ => Vec::new(),
    })
}

/// The answer to VERSION: no stdin, no privilege, no file is needed for it.
fn versions() -> Vec<u8> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Versions {
        cni_version: &'static str,
        supported_versions: [&'static str; CniVersion::ALL.len()],
    }
    let versions = Versions {
        cni_version: CniVersion::CURRENT.as_str(),
        supported_versions: CniVersion::ALL.map(CniVersion::as_str),
    };
    // Strings always serialize.
    let mut json = serde_json::to_vec(&versions).unwrap_or_default();
    json.push(b'\n');
    json
}

/// What somebody reads who starts the plugin by hand.
pub fn about() -> String {
    format!(
        "egressway {}: a CNI plugin that decides what may leave a pod. See --help.\nCNI protocol versions supported: {}\n",
        env!("CARGO_PKG_VERSION"),
        CniVersion::ALL.map(CniVersion::as_str).join(", ")
    )
}
