//! Where things are, and which number they have, if nobody says otherwise.

use std::path::{Path, PathBuf};

/// The policy file.
pub const POLICY_FILE: &str = "/etc/egressway/policy.yaml";
/// The state directory: gone with the next boot, as the kernel's state is.
pub const STATE_DIR: &str = "/run/egressway";
/// Where runtimes look for their conflist.
pub const CONF_DIR: &str = "/etc/cni/net.d";
/// What is ours beside the conflists, in [`CONF_DIR`]. No runtime looks into it.
pub const OWN_DIR: &str = "egressway.d";
/// The NFLOG group of logged packets.
pub const LOG_GROUP: u16 = 100;

/// The plugin's way to the API, where runtimes look for their conflist in `conf_dir`.
pub fn kubeconfig_in(conf_dir: &Path) -> PathBuf {
    conf_dir.join(OWN_DIR).join("kubeconfig")
}

/// The same in [`CONF_DIR`].
pub fn kubeconfig() -> PathBuf {
    kubeconfig_in(Path::new(CONF_DIR))
}
