//! A way from a node to the API server.

use super::{ADDRESS, ApiServer};
use crate::harness::Netns;
use std::sync::atomic::Ordering;

/// A link, which stays as long as the node's namespace does.
#[derive(Debug)]
pub struct Link<'a> {
    api: &'a ApiServer,
    device: String,
    near: String,
}

impl ApiServer {
    /// Makes the server reachable from `node`, at the same address as everywhere.
    pub fn connect<'a>(&'a self, node: &Netns) -> Link<'a> {
        let number = self.links.fetch_add(1, Ordering::Relaxed) + 1;
        let device = format!("api{number}");
        let (high, low) = (number / 256, number % 256);
        let near = format!("198.19.{high}.{low}");
        self.netns.ip(&format!(
            "link add {device} type veth peer name api0 netns {}
             link set {device} up
             route add {near}/32 dev {device}",
            node.name()
        ));
        node.ip(&format!(
            "addr add {near}/32 dev api0
             link set api0 up
             route add {ADDRESS}/32 dev api0 src {near}"
        ));
        Link {
            api: self,
            device,
            near,
        }
    }
}

impl Link<'_> {
    /// From now on the server does not answer: no refusal, nothing. Open connections stand still.
    pub fn cut(&self) {
        let near = &self.near;
        self.api
            .netns
            .ip(&format!("route replace blackhole {near}/32"));
    }

    /// The server answers again.
    pub fn mend(&self) {
        let (near, device) = (&self.near, &self.device);
        self.api
            .netns
            .ip(&format!("route replace {near}/32 dev {device}"));
    }
}
