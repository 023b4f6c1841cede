//! How the plugin asks the API: a kubeconfig on the node with the service account's token.
//!
//! The plugin reads the token with every call. That of the pod would end with the pod, and no other pod
//! could start until the next one of ours runs: so the process that stays asks for one of its own
//! (TokenRequest), and for the next when half of its time is over. The pod's is used until then.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::files::{self, FileError};
use crate::cluster::ADDRESSES;

/// A pod's service account, as the kubelet mounts it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceAccount {
    /// Holds `token` and `ca.crt`.
    pub dir: PathBuf,
    /// The API server: `https://10.96.0.1:443`.
    pub server: String,
}

impl ServiceAccount {
    /// The one in `dir`, if this is a pod that has one. `server` overrides where its environment says
    /// that the API is.
    pub fn find(dir: &Path, server: Option<&str>) -> Option<ServiceAccount> {
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let server = match server {
            Some(server) => server.to_owned(),
            None => url(
                &variable("KUBERNETES_SERVICE_HOST")?,
                &variable("KUBERNETES_SERVICE_PORT").unwrap_or_else(|| "443".to_owned()),
            ),
        };
        dir.join("token").exists().then(|| ServiceAccount {
            dir: dir.to_owned(),
            server,
        })
    }

    /// Writes kubeconfig and certificate into `own`, those that changed. True if any did. `addresses`: the API
    /// server's own; none: those that were written before stay.
    ///
    /// # Errors
    /// A file can't be read or written.
    pub fn copy_to(&self, own: &Path, addresses: Option<&[SocketAddr]>) -> Result<bool, FileError> {
        files::create_dir(own)?;
        let mut changed = false;
        if let Some(ca) = files::read(&self.dir.join("ca.crt"))? {
            changed |= put(own, "ca.crt", &ca)?;
        }
        let extensions = match addresses {
            Some(addresses) => json!([{
                "name": ADDRESSES, "extension": { "addresses": addresses },
            }]),
            None => extensions(own)?,
        };
        let kubeconfig = self.kubeconfig(own, extensions);
        changed |= put(own, "kubeconfig", kubeconfig.as_bytes())?;
        Ok(changed)
    }

    /// Writes the token that is mounted into the pod. It ends with the pod.
    ///
    /// # Errors
    /// A file can't be read or written.
    pub fn copy_token(&self, own: &Path) -> Result<bool, FileError> {
        // While the kubelet replaces the mounted files, it may be missing; the next look finds it.
        match files::read(&self.dir.join("token"))? {
            Some(token) => put(own, "token", &token),
            None => Ok(false),
        }
    }

    /// The service account's namespace.
    pub fn namespace(&self) -> Option<String> {
        let bytes = files::read(&self.dir.join("namespace")).ok().flatten()?;
        let name = String::from_utf8(bytes).ok()?.trim().to_owned();
        (!name.is_empty()).then_some(name)
    }

    /// JSON is YAML, too.
    fn kubeconfig(&self, own: &Path, extensions: Value) -> String {
        let mut cluster = json!({ "server": self.server });
        if !extensions.is_null() {
            cluster["extensions"] = extensions;
        }
        if self.dir.join("ca.crt").exists() {
            cluster["certificate-authority"] = json!(own.join("ca.crt"));
        }
        let config = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{ "name": "cluster", "cluster": cluster }],
            "users": [{ "name": "egressway", "user": { "tokenFile": own.join("token") } }],
            "contexts": [{ "name": "node", "context": { "cluster": "cluster", "user": "egressway" } }],
            "current-context": "node",
        });
        format!("{config:#}\n")
    }
}

/// What an earlier kubeconfig says of the API server's own addresses.
fn extensions(own: &Path) -> Result<Value, FileError> {
    let before = files::read(&own.join("kubeconfig"))?;
    let before = before.and_then(|bytes| serde_json::from_slice::<Value>(&bytes).ok());
    Ok(before.map_or(Value::Null, |mut before| {
        before["clusters"][0]["cluster"]["extensions"].take()
    }))
}

/// Writes a token that was asked for.
///
/// # Errors
/// The disk refuses.
pub fn put_token(own: &Path, token: &str) -> Result<bool, FileError> {
    put(own, "token", token.as_bytes())
}

/// For root alone. True if it was another one before.
fn put(own: &Path, name: &str, bytes: &[u8]) -> Result<bool, FileError> {
    let path = own.join(name);
    let changed = files::read(&path)?.as_deref() != Some(bytes);
    if changed {
        files::replace(&path, bytes, 0o600)?;
    }
    Ok(changed)
}

/// `https://HOST:PORT`; IPv6 addresses in brackets.
fn url(host: &str, port: &str) -> String {
    if host.contains(':') {
        format!("https://[{host}]:{port}")
    } else {
        format!("https://{host}:{port}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_new_token_is_copied_and_nobody_else_can_read_it() {
        let dir = tempfile::tempdir().unwrap();
        let (account, own) = (dir.path().join("sa"), dir.path().join("net.d/egressway.d"));
        assert_eq!(
            ServiceAccount::find(&account, Some("https://api:6443")),
            None
        );
        fs::create_dir(&account).unwrap();
        fs::write(account.join("token"), "one").unwrap();
        fs::write(account.join("ca.crt"), "ca").unwrap();
        let found = ServiceAccount::find(&account, Some("https://api:6443")).unwrap();
        let copy = || found.copy_to(&own, None).unwrap() | found.copy_token(&own).unwrap();
        assert!(copy());
        assert!(!copy(), "nothing changed");
        fs::write(account.join("token"), "two").unwrap();
        assert!(copy());
        for (name, text) in [
            ("token", Some("two")),
            ("ca.crt", Some("ca")),
            ("kubeconfig", None),
        ] {
            let path = own.join(name);
            assert_eq!(
                fs::metadata(&path).unwrap().permissions().mode() & 0o777,
                0o600
            );
            if let Some(text) = text {
                assert_eq!(fs::read_to_string(&path).unwrap(), text);
            }
        }
        let kubeconfig: serde_json::Value =
            serde_json::from_slice(&fs::read(own.join("kubeconfig")).unwrap()).unwrap();
        assert_eq!(
            kubeconfig["clusters"][0]["cluster"]["server"],
            "https://api:6443"
        );
        assert_eq!(
            kubeconfig["users"][0]["user"]["tokenFile"],
            json!(own.join("token"))
        );
        let address = ["192.0.2.1:6443".parse().unwrap()];
        assert!(found.copy_to(&own, Some(&address)).unwrap());
        assert!(!copy(), "the addresses stay");
        crate::cluster::check(&own.join("kubeconfig")).unwrap_err(); // the CA is none
        let text = fs::read_to_string(own.join("kubeconfig")).unwrap();
        assert!(text.contains("192.0.2.1:6443"), "{text}");
        fs::remove_file(account.join("token")).unwrap();
        assert!(!copy());
        assert_eq!(
            fs::read_to_string(own.join("token")).unwrap(),
            "two",
            "kept until there is another"
        );
    }

    #[test]
    fn addresses_of_the_api() {
        assert_eq!(url("10.96.0.1", "443"), "https://10.96.0.1:443");
        assert_eq!(url("fd96::1", "6443"), "https://[fd96::1]:6443");
    }
}
