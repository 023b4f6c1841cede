//! Tests against a real kube-apiserver and etcd, which `tests/kubernetes/build.sh` provides.
//!
//! Others here need a real containerd. All need what the tests in `tests/netns` need, and openssl.

mod containerd;
#[allow(unused_imports)] // each crate uses its own part
#[path = "../netns/harness/mod.rs"]
mod harness;
mod install;
mod leases;
mod manifests;
mod policy;
mod server;
