//! What can go wrong with the API: each failure in words that say what to do about it.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::refusal::CniError;
use rules::fault::shown;

/// Why the API gave no answer that can be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No kubeconfig.
    #[error(
        "there is no kubeconfig {}: `egressway install` writes it; without Kubernetes, take `kubernetes` out of the conflist",
        shown(path)
    )]
    KubeconfigMissing {
        /// The file looked for.
        path: PathBuf,
    },
    /// The kubeconfig, or a certificate that it names, can't be used.
    #[error("the kubeconfig {} cannot be used: {reason}", shown(path))]
    Kubeconfig {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The file with the token can't be used.
    #[error(
        "the token file {} of the kubeconfig {} cannot be used: {reason}",
        shown(path),
        shown(kubeconfig)
    )]
    Token {
        /// The file that names it.
        kubeconfig: PathBuf,
        /// The token's file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// Not started in a pod with a service account.
    #[error("this is not a pod with a service account: {reason}")]
    NotInCluster {
        /// What is missing.
        reason: String,
    },
    /// No connection, or one that broke.
    #[error(
        "the API server {server} cannot be reached ({reason}), so it is not known what it would answer to: {request}. Look whether it runs, and whether this node reaches it"
    )]
    Unreachable {
        /// Its URL.
        server: String,
        /// What was asked.
        request: String,
        /// The system's reason.
        reason: String,
    },
    /// No answer in time.
    #[error(
        "the API server {server} did not answer within {limit:?} to: {request}. Look at its load and at the way there; `kubernetes.timeout` in the conflist sets the limit"
    )]
    Timeout {
        /// Its URL.
        server: String,
        /// What was asked.
        request: String,
        /// How long it had.
        limit: Duration,
    },
    /// The connection is not safe: whoever answers may not be the API server.
    #[error("the API server {server} cannot be trusted: {reason}")]
    Tls {
        /// Its URL.
        server: String,
        /// What is wrong, and what to do.
        reason: String,
        /// It is about the time, which may pass.
        passing: bool,
    },
    /// 401
    #[error(
        "the API server {server} does not accept the kubeconfig's credentials (401): the token in the kubeconfig has expired or is not this cluster's. The egressway pod of this node renews it: look whether it runs"
    )]
    Unauthorized {
        /// Its URL.
        server: String,
    },
    /// 403
    #[error(
        "the API server {server} forbids egressway to {request} (403): a ClusterRole or Role of its service account needs the verb `{}` on `{}`; it says: {said}",
        verb,
        resource
    )]
    Forbidden {
        /// Its URL.
        server: String,
        /// What was asked.
        request: String,
        /// What a Role must allow.
        verb: &'static str,
        /// On which resource, with its group.
        resource: &'static str,
        /// The server's own words.
        said: String,
    },
    /// 404
    #[error("the API server {server} has no such object (404): {request}")]
    NotFound {
        /// Its URL.
        server: String,
        /// What was asked.
        request: String,
    },
    /// 429 and 5xx: it is there, and in trouble.
    #[error("the API server {server} failed ({code}) at: {request}; it says: {said}")]
    Trouble {
        /// Its URL.
        server: String,
        /// What was asked.
        request: String,
        /// The HTTP status.
        code: u16,
        /// The server's own words.
        said: String,
    },
    /// Another refusal.
    #[error("the API server {server} rejected ({code}): {request}; it says: {said}")]
    Refused {
        /// Its URL.
        server: String,
        /// What was asked.
        request: String,
        /// The HTTP status.
        code: u16,
        /// The server's own words.
        said: String,
    },
    /// An answer that is none.
    #[error("what {server} answers is not of the Kubernetes API ({reason}): {request}")]
    BadAnswer {
        /// Its URL.
        server: String,
        /// What was asked.
        request: String,
        /// What is wrong with it.
        reason: String,
    },
    /// This process could not even start asking.
    #[error("cannot start asking the Kubernetes API: {cause}")]
    Runtime {
        /// The system's reason.
        #[source]
        cause: io::Error,
    },
}

impl Error {
    /// Whether the API could not be asked at all, through no fault of what was asked: then what it
    /// said before may still be true. A refusal is an answer; an unsafe connection may be an attack.
    pub const fn is_outage(&self) -> bool {
        match self {
            Error::Unreachable { .. } | Error::Timeout { .. } => true,
            Error::Trouble { code, .. } => *code >= 500,
            _ => false,
        }
    }

    /// As the plugin's error: code 11 for what can heal by itself, 7 for what somebody must correct.
    pub fn cni(&self) -> CniError {
        match self {
            Error::Unreachable { .. }
            | Error::Timeout { .. }
            | Error::Tls { passing: true, .. }
            | Error::Unauthorized { .. }
            | Error::NotFound { .. }
            | Error::Trouble { .. }
            | Error::BadAnswer { .. }
            | Error::Runtime { .. } => CniError::try_again(self.to_string()),
            Error::KubeconfigMissing { .. }
            | Error::Kubeconfig { .. }
            | Error::Token { .. }
            | Error::NotInCluster { .. }
            | Error::Tls { passing: false, .. }
            | Error::Forbidden { .. }
            | Error::Refused { .. } => CniError::invalid_config(self.to_string()),
        }
    }
}
