//! Calling a plugin as libcni does: everything in the environment and on stdin, one JSON document on stdout.

use super::Netns;
use super::exec::{self, Output};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Duration;

/// The network's name in every conflist of the tests.
pub const NETWORK: &str = "k8s-pod-network";
/// The capability by which runtimes hand over a pod's annotations.
pub const POD_ANNOTATIONS: &str = "io.kubernetes.cri.pod-annotations";
/// Where Debian's containernetworking-plugins live.
const REFERENCE_PLUGINS: &str = "/usr/lib/cni";

/// Where the plugin of this name is: ours as just built, else a reference plugin.
pub fn binary(plugin: &str) -> PathBuf {
    if plugin == "egressway" {
        PathBuf::from(env!("CARGO_BIN_EXE_egressway"))
    } else {
        Path::new(REFERENCE_PLUGINS).join(plugin)
    }
}

/// One call of one plugin. Tests change `env` and `stdin` at will before they run it.
#[derive(Debug, Clone)]
pub struct Call {
    pub plugin: PathBuf,
    pub env: BTreeMap<String, String>,
    pub stdin: Vec<u8>,
}

impl Call {
    /// A call with the six CNI variables; those not given are empty, as libcni leaves them.
    pub fn new(plugin: &str, verb: &str, stdin: impl Into<Vec<u8>>) -> Self {
        let mut call = Self {
            plugin: binary(plugin),
            env: BTreeMap::new(),
            stdin: stdin.into(),
        };
        for key in ["CNI_ARGS", "CNI_CONTAINERID", "CNI_IFNAME", "CNI_NETNS"] {
            call = call.env(key, "");
        }
        call.env("CNI_COMMAND", verb)
            .env("CNI_PATH", REFERENCE_PLUGINS)
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
    }

    pub fn env(mut self, key: &str, value: &str) -> Self {
        self.env.insert(key.to_owned(), value.to_owned());
        self
    }

    pub fn without(mut self, key: &str) -> Self {
        self.env.remove(key);
        self
    }

    pub fn stdin(mut self, stdin: impl Into<Vec<u8>>) -> Self {
        self.stdin = stdin.into();
        self
    }

    /// The command with nothing but our environment. `wrapper` goes before it: `["strace", "-f"]`.
    pub fn command(&self, wrapper: &[&str]) -> Command {
        let mut command = match wrapper {
            [] => Command::new(&self.plugin),
            [program, args @ ..] => {
                let mut command = Command::new(program);
                command.args(args).arg(&self.plugin);
                command
            }
        };
        command.env_clear().envs(&self.env).current_dir("/");
        command
    }

    /// Runs it in the node's namespace to its end.
    pub fn run(&self, node: &Netns) -> PluginRun {
        self.run_under(node, &[])
    }

    /// Runs it to its end, behind a wrapper command.
    pub fn run_under(&self, node: &Netns, wrapper: &[&str]) -> PluginRun {
        PluginRun {
            output: node.exec_with(&mut self.command(wrapper), &self.stdin),
        }
    }

    /// Runs it in the node's namespace and kills it after `delay`, if it has not ended before.
    pub fn run_killed(&self, node: &Netns, delay: Duration) -> PluginRun {
        PluginRun {
            output: exec::kill_after(self.spawn(node), &self.stdin, delay),
        }
    }

    /// Starts it in the node's namespace and leaves it running; its input must still be written.
    pub fn spawn(&self, node: &Netns) -> Child {
        node.spawn(&mut self.command(&[]))
    }
}

/// What a plugin answered.
#[derive(Debug)]
pub struct PluginRun {
    pub output: Output,
}

impl PluginRun {
    pub fn succeeded(&self) -> bool {
        self.output.code == Some(0)
    }

    /// Stdout of a call that must have succeeded.
    pub fn ok(&self) -> String {
        assert!(
            self.succeeded(),
            "the plugin failed: {:?} stdout {:?} stderr {}",
            self.output.code,
            self.output.stdout_text(),
            self.output.stderr
        );
        self.output.stdout_text()
    }

    /// The error of a call that must have failed: one JSON document on stdout, exit code not 0.
    pub fn error(&self) -> CniError {
        let text = self.output.stdout_text();
        assert!(
            matches!(self.output.code, Some(code) if code != 0),
            "want a failure with an exit code, got {:?}, stdout {text:?}, stderr {}",
            self.output.code,
            self.output.stderr
        );
        let value: Value = serde_json::from_str(&text).unwrap_or_else(|e| {
            panic!("an error must be one JSON document on stdout: {e}: {text:?}")
        });
        CniError {
            code: value["code"]
                .as_u64()
                .unwrap_or_else(|| panic!("an error needs a code: {text}")),
            msg: value["msg"]
                .as_str()
                .unwrap_or_else(|| panic!("an error needs a msg: {text}"))
                .to_owned(),
            details: value["details"].as_str().unwrap_or_default().to_owned(),
            version: value["cniVersion"].as_str().unwrap_or_default().to_owned(),
        }
    }
}

/// A CNI error document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CniError {
    pub code: u64,
    pub msg: String,
    pub details: String,
    pub version: String,
}

impl CniError {
    /// Message and details together, for tests that only care that something is said.
    pub fn text(&self) -> String {
        format!("{}\n{}", self.msg, self.details)
    }
}

/// Who is attached: what libcni puts in the environment.
#[derive(Debug, Clone)]
pub struct Attachment {
    pub container_id: String,
    pub netns: String,
    pub ifname: String,
    pub args: String,
}

/// A plugin's stdin. `prev_result` goes in as the very bytes it is.
pub fn stdin(
    plugin: &Map<String, Value>,
    version: &str,
    runtime: Option<&Value>,
    prev_result: Option<&str>,
) -> String {
    let mut conf = plugin.clone();
    conf.insert("name".to_owned(), json!(NETWORK));
    conf.insert("cniVersion".to_owned(), json!(version));
    if let Some(runtime) = runtime {
        conf.insert("runtimeConfig".to_owned(), runtime.clone());
    }
    let text = Value::Object(conf).to_string();
    match prev_result {
        None => text,
        Some(prev) => format!(
            "{},\"prevResult\":{prev}}}",
            text.strip_suffix('}').expect("an object")
        ),
    }
}

/// A call for an attachment.
pub fn call(plugin: &str, verb: &str, who: &Attachment, stdin: String) -> Call {
    Call::new(plugin, verb, stdin)
        .env("CNI_CONTAINERID", &who.container_id)
        .env("CNI_NETNS", &who.netns)
        .env("CNI_IFNAME", &who.ifname)
        .env("CNI_ARGS", &who.args)
}
