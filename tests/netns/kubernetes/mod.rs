//! Tests against a real kube-apiserver and etcd, which `tests/apiserver/build.sh` provides.
//!
//! Others here need a real containerd. All need openssl, too.

pub mod agent;
mod containerd;
mod install;
mod leases;
mod live;
mod manifests;
mod policy;
mod server;
mod taint;
mod verdicts;
