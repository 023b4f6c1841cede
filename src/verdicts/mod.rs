//! What rules decided, from the kernel's log messages to lines that name pods and rules.
//!
//! ```text
//! NFLOG message ── stream::Stream              waits, and knows what was lost
//!        │ rules::verdict, packet              whose rule, which packet
//!        ▼
//!   reader::Reader ── pods, places             whose packet, where the rule stands
//!        │
//!        ▼
//!   rules::line ── JSON, text ── files          and back
//!        │
//!    ring::Ring ── wire ── client              from the agent, which reads the groups, to others
//! ```
//!
//! Nothing in here prints: whoever reads a group decides where lines go.

pub mod client;
pub mod files;
pub mod loss;
pub mod node;
pub mod packet;
pub mod pods;
pub mod reader;
pub mod ring;
pub mod stream;
pub mod wire;

mod places;
#[cfg(test)]
pub(crate) mod test_support;

pub use loss::Loss;
pub use rules::line::{self, Line};
pub use stream::{Received, Stream};
