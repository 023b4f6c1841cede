//! The kubeconfig and the files that it names, read anew at every start: tokens are renewed.

use std::fs::{self, File};
use std::io::{self, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use kube::config::{Config, Kubeconfig, KubeconfigError, LoadDataError};
use serde::Deserialize;

use super::error::Error;
use rules::fault::shown;

/// Bytes that a kubeconfig or token may have. Real ones have a few thousand.
const LARGEST: u64 = 1 << 20;

const NO_CERTIFICATES: &str = "`certificate-authority` holds no PEM certificates";

/// The extension of a cluster that lists the API server's own addresses, which are tried before `server`:
/// `{"name": "egressway.dev/addresses", "extension": {"addresses": ["192.0.2.1:6443"]}}`. The server's
/// certificate must be for `server`'s host.
pub const ADDRESSES: &str = "egressway.dev/addresses";

/// How to reach the server, and its own addresses.
///
/// # Errors
/// A file is missing, cannot be read, or does not say how to reach a server.
pub(super) fn load(path: &Path) -> Result<(Config, Vec<SocketAddr>), Error> {
    let text = read(path).map_err(|problem| match problem {
        TokenProblem::Missing => Error::KubeconfigMissing {
            path: path.to_owned(),
        },
        TokenProblem::Other(reason) => unusable(path, reason),
    })?;
    let mut kubeconfig =
        Kubeconfig::from_yaml(&text).map_err(|e| unusable(path, of_kubeconfig(&e)))?;
    kubeconfig
        .clusters
        .iter_mut()
        .filter_map(|named| named.cluster.as_mut())
        .for_each(|cluster| absolute(path, &mut cluster.certificate_authority));
    for user in kubeconfig
        .auth_infos
        .iter_mut()
        .filter_map(|named| named.auth_info.as_mut())
    {
        absolute(path, &mut user.client_certificate);
        absolute(path, &mut user.client_key);
        absolute(path, &mut user.token_file);
    }
    take_only_context(&mut kubeconfig);
    let addresses = addresses(&kubeconfig).map_err(|reason| unusable(path, reason))?;
    let mut config = Config::try_from(kubeconfig).map_err(|e| unusable(path, of_kubeconfig(&e)))?;
    let user = &mut config.auth_info;
    if user.exec.is_some() || user.auth_provider.is_some() {
        let reason = "its user has `exec` or `auth-provider`, and egressway runs no other program: give it `tokenFile`, `token` or a client certificate";
        return Err(unusable(path, reason.to_owned()));
    }
    // Read here, and not by the library, which would take an empty one.
    if let (None, Some(file)) = (&user.token, user.token_file.take()) {
        user.token = Some(token(path, Path::new(&file))?.into());
    }
    if config.cluster_url.host().is_none() {
        let reason = format!(
            "`server` is {:?}, which is not a URL such as https://10.0.0.1:6443",
            config.cluster_url.to_string()
        );
        return Err(unusable(path, reason));
    }
    if config.root_cert.as_ref().is_some_and(Vec::is_empty) {
        return Err(unusable(path, NO_CERTIFICATES.to_owned()));
    }
    if config.accept_invalid_certs {
        tracing::warn!(
            "{}: `insecure-skip-tls-verify` lets anybody on the way to the API server say what the policy is",
            shown(path)
        );
    }
    Ok((config, addresses))
}

/// kubectl takes the only context, too, when none is current.
fn take_only_context(kubeconfig: &mut Kubeconfig) {
    if let (None, [only]) = (&kubeconfig.current_context, &kubeconfig.contexts[..]) {
        kubeconfig.current_context = Some(only.name.clone());
    }
}

/// What [`ADDRESSES`] of the current context's cluster says.
fn addresses(kubeconfig: &Kubeconfig) -> Result<Vec<SocketAddr>, String> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Extension {
        addresses: Vec<SocketAddr>,
    }
    let current = kubeconfig.contexts.iter();
    let extension = current
        .filter(|named| Some(&named.name) == kubeconfig.current_context.as_ref())
        .filter_map(|named| named.context.as_ref())
        .flat_map(|context| {
            let clusters = kubeconfig.clusters.iter();
            clusters.filter(|named| named.name == context.cluster)
        })
        .filter_map(|named| named.cluster.as_ref()?.extensions.as_ref())
        .flatten()
        .find(|extension| extension.name == ADDRESSES);
    let Some(extension) = extension else {
        return Ok(Vec::new());
    };
    Extension::deserialize(&extension.extension)
        .map(|found| found.addresses)
        .map_err(|e| {
            format!("the extension {ADDRESSES} of its cluster is not a list of `addresses` such as 192.0.2.1:6443: {e}")
        })
}

/// Paths in a kubeconfig are meant from where it stands.
fn absolute(kubeconfig: &Path, path: &mut Option<String>) {
    if let (Some(dir), Some(path)) = (kubeconfig.parent(), path) {
        *path = dir.join(&*path).to_string_lossy().into_owned();
    }
}

fn token(kubeconfig: &Path, file: &Path) -> Result<String, Error> {
    let text = read(file).map_err(|problem| {
        let reason = match problem {
            TokenProblem::Missing => "it is not there".to_owned(),
            TokenProblem::Other(reason) => reason,
        };
        Error::Token {
            kubeconfig: kubeconfig.to_owned(),
            path: file.to_owned(),
            reason,
        }
    })?;
    let token = text.trim();
    // What an HTTP header takes, and nothing that could end it.
    if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        let reason = if token.is_empty() {
            "it is empty"
        } else {
            "it holds what no token has: characters other than ASCII's visible ones"
        };
        return Err(Error::Token {
            kubeconfig: kubeconfig.to_owned(),
            path: file.to_owned(),
            reason: reason.to_owned(),
        });
    }
    Ok(token.to_owned())
}

enum TokenProblem {
    Missing,
    Other(String),
}

fn read(path: &Path) -> Result<String, TokenProblem> {
    let failed = |e: io::Error| match e.kind() {
        io::ErrorKind::NotFound => TokenProblem::Missing,
        _ => TokenProblem::Other(format!("cannot read it: {e}")),
    };
    // Asked before it is opened: opening a FIFO would wait for a writer.
    if !fs::metadata(path).map_err(failed)?.is_file() {
        return Err(TokenProblem::Other("it is not a regular file".to_owned()));
    }
    let mut text = String::new();
    File::open(path)
        .and_then(|file| file.take(LARGEST + 1).read_to_string(&mut text))
        .map_err(failed)?;
    if text.len() as u64 > LARGEST {
        return Err(TokenProblem::Other(format!(
            "it has more than {} MiB",
            LARGEST >> 20
        )));
    }
    Ok(text)
}

fn unusable(path: &Path, reason: String) -> Error {
    Error::Kubeconfig {
        path: path.to_owned(),
        reason,
    }
}

/// The library's reason in one sentence, without the words that only name the library's own step.
pub(super) fn reason(error: &kube::Error) -> String {
    match error {
        kube::Error::InferKubeconfig(e) => of_kubeconfig(e),
        kube::Error::ProxyProtocolDisabled { .. }
        | kube::Error::ProxyProtocolUnsupported { .. } => {
            "`proxy-url` is set, and egressway speaks to no proxy: take it out".to_owned()
        }
        kube::Error::RustlsTls(e) => e.to_string(),
        other => other.to_string(),
    }
}

fn of_kubeconfig(error: &KubeconfigError) -> String {
    match error {
        KubeconfigError::CurrentContextNotSet => {
            "it has no `current-context`: name one of its contexts there".to_owned()
        }
        KubeconfigError::LoadContext(name) => {
            format!("its `current-context` {name:?} is none of its contexts")
        }
        KubeconfigError::LoadClusterOfContext(name) => {
            format!("the cluster {name:?} of its current context is none of its clusters")
        }
        KubeconfigError::MissingClusterUrl => "its cluster has no `server`".to_owned(),
        KubeconfigError::ParseClusterUrl(e) => {
            format!("`server` is not a URL such as https://10.0.0.1:6443: {e}")
        }
        KubeconfigError::Parse(e) => format!("it is not a kubeconfig: {e}"),
        KubeconfigError::LoadCertificateAuthority(e) => of_file("certificate-authority", e),
        KubeconfigError::LoadClientCertificate(e) => of_file("client-certificate", e),
        KubeconfigError::LoadClientKey(e) => of_file("client-key", e),
        KubeconfigError::ParseCertificates(e) => {
            format!("{NO_CERTIFICATES}: {e}")
        }
        other => other.to_string(),
    }
}

fn of_file(key: &str, error: &LoadDataError) -> String {
    match error {
        LoadDataError::ReadFile(cause, path) => {
            format!(
                "cannot read `{key}` {}: {cause}",
                shown(&PathBuf::from(path))
            )
        }
        LoadDataError::DecodeBase64(cause) => format!("`{key}-data` is not base64: {cause}"),
        other => format!("`{key}`: {other}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::check;

    /// A kubeconfig with this cluster and this user, in YAML's flow style.
    fn kubeconfig(cluster: &str, user: &str) -> String {
        format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: it\n\
             contexts: [{{name: it, context: {{cluster: it, user: it}}}}]\n\
             clusters: [{{name: it, cluster: {cluster}}}]\n\
             users: [{{name: it, user: {user}}}]\n"
        )
    }

    /// What [`check`] says of this text, with DIR for the directory that it stands in.
    fn checked(text: &str, files: &[(&str, &str)]) -> String {
        let dir = tempfile::tempdir().expect("a directory");
        for (name, text) in files.iter().chain([&("kubeconfig", text)]) {
            fs::write(dir.path().join(name), text).expect("writable");
        }
        match check(&dir.path().join("kubeconfig")) {
            Ok(()) => "usable".to_owned(),
            Err(e) => {
                assert_eq!(e.cni().code, 7, "{e}");
                assert!(!e.is_outage());
                e.to_string()
                    .replace(&dir.path().display().to_string(), "DIR")
            }
        }
    }

    const SERVER: &str = "{server: 'http://127.0.0.1:1'}";

    #[test]
    fn what_is_missing_is_named() {
        let none = check(Path::new("/nonexistent/kubeconfig")).expect_err("is missing");
        assert_eq!(none.cni().code, 7);
        assert_eq!(
            none.to_string(),
            "there is no kubeconfig /nonexistent/kubeconfig: `egressway install` writes it; without Kubernetes, take `kubernetes` out of the conflist"
        );
        assert_eq!(
            checked(&kubeconfig(SERVER, "{tokenFile: token}"), &[]),
            "the token file DIR/token of the kubeconfig DIR/kubeconfig cannot be used: it is not there"
        );
        assert_eq!(
            checked(
                &kubeconfig(SERVER, "{tokenFile: token}"),
                &[("token", "\n")]
            ),
            "the token file DIR/token of the kubeconfig DIR/kubeconfig cannot be used: it is empty"
        );
        assert_eq!(
            checked(
                &kubeconfig(
                    "{server: 'https://127.0.0.1:1', certificate-authority: ca.pem}",
                    "{}"
                ),
                &[]
            ),
            "the kubeconfig DIR/kubeconfig cannot be used: cannot read `certificate-authority` DIR/ca.pem: No such file or directory (os error 2)"
        );
    }

    #[test]
    fn what_is_wrong_is_said() {
        let unusable = "the kubeconfig DIR/kubeconfig cannot be used: ";
        for (text, expected) in [
            (
                String::new(),
                "it has no `current-context`: name one of its contexts there",
            ),
            ("[1, 2".to_owned(), "it is not a kubeconfig: "),
            (
                kubeconfig(SERVER, "{}").replace("current-context: it", "current-context: other"),
                "its `current-context` \"other\" is none of its contexts",
            ),
            (
                kubeconfig(SERVER, "{}").replace("cluster: it,", "cluster: other,"),
                "the cluster \"other\" of its current context is none of its clusters",
            ),
            (kubeconfig("{}", "{}"), "its cluster has no `server`"),
            (
                kubeconfig("{server: 'not a url'}", "{}"),
                "`server` is not a URL such as https://10.0.0.1:6443: ",
            ),
            (
                kubeconfig("{server: '/path'}", "{}"),
                "`server` is \"/path\", which is not a URL such as https://10.0.0.1:6443",
            ),
            (
                kubeconfig(
                    "{server: 'https://h', certificate-authority-data: '!'}",
                    "{}",
                ),
                "`certificate-authority-data` is not base64: ",
            ),
            (
                kubeconfig(
                    "{server: 'https://h', certificate-authority-data: LS0tLS1CRUdJTiBDRVJU}",
                    "{}",
                ),
                "`certificate-authority` holds no PEM certificates",
            ),
            (
                kubeconfig("{server: 'https://h', proxy-url: 'http://p'}", "{}"),
                "`proxy-url` is set, and egressway speaks to no proxy: take it out",
            ),
            (
                kubeconfig(
                    "{server: 'https://h', extensions: [{name: egressway.dev/addresses, extension: {addresses: [192.0.2.1]}}]}",
                    "{}",
                ),
                "the extension egressway.dev/addresses of its cluster is not a list of `addresses` such as 192.0.2.1:6443: ",
            ),
            (
                kubeconfig(SERVER, "{exec: {apiVersion: v1, command: touch}}"),
                "its user has `exec` or `auth-provider`, and egressway runs no other program",
            ),
        ] {
            let said = checked(&text, &[]);
            assert!(
                said.starts_with(&format!("{unusable}{expected}")),
                "{text}: {said}"
            );
        }
    }

    #[test]
    fn a_token_that_would_end_its_header_is_refused() {
        let text = kubeconfig(SERVER, "{tokenFile: token}");
        for token in ["a\r\nX: y", "a b", "\u{1f600}", "a\0b"] {
            let said = checked(&text, &[("token", token)]);
            assert!(said.contains("what no token has"), "{token:?}: {said}");
        }
        assert_eq!(checked(&text, &[("token", "abc.def-ghi\n")]), "usable");
    }

    #[test]
    fn a_kubeconfig_with_one_context_needs_no_current_one() {
        let text = kubeconfig(SERVER, "{}").replace("current-context: it\n", "");
        assert_eq!(checked(&text, &[]), "usable");
    }
}
