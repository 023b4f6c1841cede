//! The node, as somebody has it at hand who works on it.

use std::time::Instant;

use crate::store::StateDir;
use netlink::Rtnl;
use nft::Nft;

/// What a piece of work on this node has at hand. The state directory is locked.
pub(crate) struct Node<'a> {
    pub state: &'a StateDir,
    pub nft: &'a mut Nft,
    pub rtnl: &'a mut Rtnl,
    /// When to give up.
    pub deadline: Instant,
}
