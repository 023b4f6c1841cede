//! Where policy comes from: the policy file, the annotations of namespaces and pods. Together they make one pod's policy.
//!
//! Only [`PolicyFile::load`] and [`api::read`] do I/O. Every text is checked before anything is written to the kernel.

pub mod annotation;
pub mod api;
mod egress;
mod error;
mod file;
pub mod known;
mod mode;
mod names;
mod namespace;
mod others;
pub mod pod;
mod resolve;
pub mod seen;
mod snapshot;
mod yaml;

pub use egress::impossible as impossible_egress;
pub use error::SourceError;
pub use file::{KIND, NamesOptions, PolicyFile};
pub use mode::Mode;
pub use names::Name;
pub(crate) use names::{behind_api_server, behind_nodes, behind_service, needed};
pub use namespace::NamespaceAnnotations;
pub(crate) use others::ALL as ALL_NAMESPACES;
pub use resolve::{PodPolicy, resolve};
pub use snapshot::Snapshots;
