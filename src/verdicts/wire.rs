//! What is spoken on the agent's socket: a line of JSON that asks, lines of JSON that answer. docs/agent-socket.md
//! has it for people.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// The version of what is asked and answered. An agent refuses others, by name.
pub const VERSION: u32 = 1;

/// The longest question, with its line feed.
pub const LONGEST: usize = 4096;

/// Where the agent of this state directory answers.
pub fn socket(state_dir: &Path) -> PathBuf {
    state_dir.join("agent.sock")
}

/// A question.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Request {
    /// [`VERSION`]
    pub v: u32,
    /// What about.
    pub want: Want,
    /// Of verdicts, those of the last so many seconds first, too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<f64>,
    /// Go on with what comes, until the reader leaves.
    #[serde(default)]
    pub follow: bool,
    /// With the packets' first bytes.
    #[serde(default)]
    pub packets: bool,
}

/// What a question is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Want {
    /// The lines of the log.
    Verdicts,
    /// What the agent knows of this node's pods.
    Node,
    /// What domain names in rules stand for.
    Names,
}

/// The first line of an answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(
    tag = "kind",
    rename_all = "lowercase",
    rename_all_fields = "camelCase"
)]
pub enum Answer {
    /// Verdicts follow.
    Begin {
        /// [`VERSION`]
        v: u32,
        /// The NFLOG group of enforced rules.
        group: u16,
        /// For so many seconds back every line is here that the kernel did not lose.
        reaches_back: f64,
        /// Why nothing is read from the groups at present.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        not_reading: Option<String>,
        /// Whether lines tell where packets went before translation.
        tells_original: bool,
    },
    /// This node's pods.
    Node(Box<super::node::Node>),
    /// What domain names in rules stand for.
    Names(Box<crate::names::told::ToldNames>),
    /// The question can't be answered.
    Error {
        /// [`VERSION`]
        v: u32,
        /// Why.
        error: String,
    },
}

impl Answer {
    /// It as a line.
    pub fn line(&self) -> String {
        // Nothing in it can fail by itself.
        serde_json::to_string(self).unwrap_or_default() + "\n"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_and_answers_are_as_documented() {
        let asked = r#"{"v":1,"want":"verdicts","since":600.0,"follow":true,"packets":false}"#;
        let request: Request = serde_json::from_str(asked).unwrap();
        assert_eq!(serde_json::to_string(&request).unwrap(), asked);
        let short: Request = serde_json::from_str(r#"{"v":1,"want":"node"}"#).unwrap();
        assert_eq!(
            (short.want, short.follow, short.since),
            (Want::Node, false, None)
        );
        for bad in [
            "{}",
            r#"{"v":1,"want":"all"}"#,
            r#"{"v":1,"want":"node","x":1}"#,
        ] {
            assert!(serde_json::from_str::<Request>(bad).is_err(), "{bad}");
        }
        let begin = Answer::Begin {
            v: VERSION,
            group: 100,
            reaches_back: 1.5,
            not_reading: None,
            tells_original: true,
        };
        assert_eq!(
            begin.line(),
            "{\"kind\":\"begin\",\"v\":1,\"group\":100,\"reachesBack\":1.5,\"tellsOriginal\":true}\n"
        );
        let error = Answer::Error {
            v: VERSION,
            error: "no".to_owned(),
        };
        assert_eq!(
            error.line(),
            "{\"kind\":\"error\",\"v\":1,\"error\":\"no\"}\n"
        );
    }
}
