//! Whether a pod's packets may leave, by which rule, and why no other: what a policy answers to a question.
//!
//! ```text
//! record of an attachment, or manifests and a policy file ── Subject      whose packets, and all that applies to them
//! what is asked ── Destination, Via, Question
//!                          │ traffic   one packet for each kind of traffic that some rule could tell apart
//!                          │ ways      where it may have been sent before a Service translated it
//!                          │ outcome   what `rules::evaluate` says of each
//!                          ▼
//!                     Explanation      answers with the rules on the way; for people, each has a `Why`
//! ```
//!
//! It is the same evaluation with which the kernel's rules are compared in tests, and it asks no cluster.

mod address;
mod destination;
mod explanation;
mod manifest;
mod outcome;
mod question;
mod subject;
mod traffic;
mod ways;
mod why;

pub use address::DestinationError;
pub use destination::{Destination, Host, SentTo, Via};
pub use explanation::{Answer, DECIDES, Explanation, NOT_REACHED, PASSES_ON, Source, StepLine};
pub use manifest::ManifestError;
pub use question::Question;
pub use subject::{Files, Subject, SubjectError};
pub use ways::Unresolved;
pub use why::Why;
