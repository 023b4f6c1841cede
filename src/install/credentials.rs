//! How the plugin asks the API: a kubeconfig on the node with the service account's token.
//!
//! The kubelet renews the token that it mounts into a pod long before it ends. A copy of each new one
//! is all that renewing takes; the plugin reads it with every call.

use std::path::{Path, PathBuf};

use serde_json::json;

use super::files::{self, FileError};

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

    /// Writes kubeconfig, token and certificate into `own`, those that changed. True if any did.
    ///
    /// # Errors
    /// A file can't be read or written.
    pub fn copy_to(&self, own: &Path) -> Result<bool, FileError> {
        files::create_dir(own)?;
        let mut changed = false;
        let mut put = |name: &str, bytes: &[u8]| -> Result<(), FileError> {
            let path = own.join(name);
            if files::read(&path)?.as_deref() != Some(bytes) {
                files::replace(&path, bytes, 0o600)?;
                changed = true;
            }
            Ok(())
        };
        if let Some(ca) = files::read(&self.dir.join("ca.crt"))? {
            put("ca.crt", &ca)?;
        }
        // While the kubelet replaces the mounted files, one may be missing; the next look finds it.
        if let Some(token) = files::read(&self.dir.join("token"))? {
            put("token", &token)?;
        }
        put("kubeconfig", self.kubeconfig(own).as_bytes())?;
        Ok(changed)
    }

    /// JSON is YAML, too.
    fn kubeconfig(&self, own: &Path) -> String {
        let mut cluster = json!({ "server": self.server });
        if self.dir.join("ca.crt").exists() {
            cluster["certificate-authority"] = json!(own.join("ca.crt"));
        }
        let config = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{ "name": "cluster", "cluster": cluster }],
            "users": [{ "name": "egress-cni", "user": { "tokenFile": own.join("token") } }],
            "contexts": [{ "name": "node", "context": { "cluster": "cluster", "user": "egress-cni" } }],
            "current-context": "node",
        });
        format!("{config:#}\n")
    }
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
        let (account, own) = (dir.path().join("sa"), dir.path().join("net.d/egress-cni.d"));
        assert_eq!(
            ServiceAccount::find(&account, Some("https://api:6443")),
            None
        );
        fs::create_dir(&account).unwrap();
        fs::write(account.join("token"), "one").unwrap();
        fs::write(account.join("ca.crt"), "ca").unwrap();
        let found = ServiceAccount::find(&account, Some("https://api:6443")).unwrap();
        assert!(found.copy_to(&own).unwrap());
        assert!(!found.copy_to(&own).unwrap(), "nothing changed");
        fs::write(account.join("token"), "two").unwrap();
        assert!(found.copy_to(&own).unwrap());
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
        fs::remove_file(account.join("token")).unwrap();
        assert!(!found.copy_to(&own).unwrap());
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
