//! What is asked, apart from whose packet it is.

use super::destination::Via;
use rules::rule::Ports;

/// What is asked, apart from whose packet it is.
#[derive(Debug)]
pub struct Question {
    /// `None`: every protocol.
    pub traffic: Option<Ports>,
    /// Where the pod sent it, if to a Service.
    pub via: Option<Via>,
    /// The destination is an address of the node, whatever the node says.
    pub node: bool,
    /// The destination is an address of the API server, whatever is known of that.
    pub api_server: bool,
    /// When, for rules that end.
    pub time: jiff::Timestamp,
    /// Tell the rules that were not reached, too.
    pub all: bool,
}
