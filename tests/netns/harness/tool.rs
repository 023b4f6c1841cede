//! Our binary as the operator's tool.

use super::Node;
use super::cni::binary;
use super::exec::Output;
use serde_json::Value;
use std::process::Command;

impl Node {
    /// Runs a subcommand on the node, with its state directory.
    pub fn tool(&self, words: &str) -> Output {
        self.netns.exec_with(&mut self.tool_command(words), b"")
    }

    pub fn tool_command(&self, words: &str) -> Command {
        let mut command = Command::new(binary("egressway"));
        command
            .args(words.split_whitespace())
            .arg("--state-dir")
            .arg(self.state_dir());
        command
    }

    /// The JSON of a subcommand that must succeed.
    pub fn tool_json(&self, words: &str) -> Value {
        let output = self.tool(words);
        let text = output.stdout_text();
        assert_eq!(output.code, Some(0), "{words}: {text}{}", output.stderr);
        serde_json::from_str(&text).unwrap_or_else(|e| panic!("{words}: {e}: {text}"))
    }
}

/// What an agent said of itself on stdout, as text: the verdicts beside it are left out.
pub fn said(stdout: &[u8]) -> String {
    let text = String::from_utf8_lossy(stdout);
    let mut said = String::new();
    for line in text.lines() {
        let value: Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
        if let (Value::Object(mut fields), true) = (value.clone(), value["kind"] == "log") {
            let message = fields.remove("message").expect("a message");
            said += message.as_str().expect("a text");
            for (name, value) in fields {
                let value = value
                    .as_str()
                    .map_or_else(|| value.to_string(), str::to_owned);
                said += &format!(" {name}={value}");
            }
            said.push('\n');
        }
    }
    said
}
