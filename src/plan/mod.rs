//! From an effective policy and an attachment to operations on the two tables. Pure: the same input
//! gives the same operations, and they print themselves as nft text.

pub mod attachment;
pub mod base;
mod condition;
pub mod policy;
mod ranges;
mod reach;

pub use attachment::{AttachmentPlan, Bridge};
pub use base::Base;
pub use policy::{Compiled, compile};

/// Lower-case hex.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
