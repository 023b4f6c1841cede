//! What the end-to-end tests are made of: network namespaces, a node with an outside world, pods made by
//! the reference CNI plugins, probes that send real packets, and eyes on what arrived.
//!
//! Helpers panic with a reason when the harness itself fails; what the plugin does is returned, for the test to judge.

pub mod agent;
pub mod attempt;
pub mod bystander;
pub mod capture;
pub mod cluster;
pub mod cni;
pub mod egress;
pub mod exec;
pub mod fake_api;
pub mod netns;
pub mod nflog;
pub mod node;
pub mod pod;
pub mod policy;
pub mod primary;
pub mod probe;
pub mod ruleset;
pub mod servers;
pub mod silence;
pub mod strace;
pub mod tool;

pub use bystander::undisturbed;
pub use capture::{Capture, scapy};
pub use cni::PluginRun;
pub use fake_api::{Answer, Certificate, FakeApi};
pub use netns::Netns;
pub use nflog::Nflog;
pub use node::{Node, NodeOptions};
pub use pod::{Pod, PodSpec};
pub use policy::Policy;
pub use primary::Primary;
pub use probe::{Conn, Outcome, Probe, Want, check, soon};
pub use servers::Echo;
pub use silence::silently;
