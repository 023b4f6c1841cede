//! What running pods' policies should be by what is written now.
//!
//! ```text
//!  watches, policy file ──> view::View       what is written, by whom
//!  attachments/*.json ────> attached         what each attachment has
//!                              │
//!                              ▼
//!                           Live::look       the difference, one policy for all with the same texts
//!                              │
//!                              ▼
//!                     lifecycle::switch      put, switch, take away
//! ```
//!
//! Nothing here waits for the API: what is not known yet leaves a pod as it is, and so does whatever is at fault.

mod attached;
mod coming;
mod look;
mod publish;
mod view;

pub use look::{Fault, Live, News};
pub use publish::Publisher;
pub use view::{Object, Part, View};
