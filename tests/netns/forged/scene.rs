//! A pod that sends frames by a packet socket, and eyes on what of them leaves the node.

use super::frame::{Ends, Frame, mac};
use crate::harness::capture::contains;
use crate::harness::node::EXT;
use crate::harness::node::ip;
use crate::harness::*;
use netlink::offload::Offload;
use netlink::unfinished::Unfinished;
use netlink::{Rtnl, link, tc};
use serde_json::json;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// Long enough for a frame through the node on a busy machine.
const SOON: Duration = Duration::from_secs(4);

/// A node whose conflist says so of forged checksums. The uplink's MTU is smaller than the pods'.
pub fn node(forged_checksums: &str, uplink_offload: bool) -> Node {
    let mut node = Node::new(NodeOptions::default());
    node.ours
        .insert("forgedChecksums".to_owned(), json!(forged_checksums));
    for netns in [&node.netns, &node.ext] {
        netns.ip("link set eth0 mtu 1300");
    }
    set_offload(&node.netns, "eth0", uplink_offload);
    node
}

/// Whether checksums of what a device sends are left to it.
pub fn set_offload(netns: &Netns, device: &str, on: bool) {
    let set = || Offload::TransmitChecksums.set(device, on);
    netns.run(set).expect("the device's offload");
}

pub fn offload(netns: &Netns, device: &str) -> bool {
    netns
        .run(|| Offload::TransmitChecksums.get(device))
        .expect("the device's offload")
}

pub struct Sender<'n> {
    pub pod: &'n Pod<'n>,
    socket: Unfinished,
    /// Where its frames go first.
    gateway: [u8; 6],
}

impl<'n> Sender<'n> {
    pub fn new(pod: &'n Pod<'n>) -> Self {
        let device = match pod.spec.primary {
            Primary::Bridge => "cni0",
            _ => &pod.veth,
        };
        let eth0 = pod.netns.ip_json("link show dev eth0")[0]["ifindex"].as_u64();
        let index = eth0.expect("an index") as u32;
        let open = || Unfinished::open(index).expect("a packet socket");
        Self {
            socket: pod.netns.run(open),
            gateway: mac(&pod.node.netns.mac(device)),
            pod,
        }
    }

    /// Frames from the pod's own address to this one, by the gateway.
    pub fn to(&self, to: IpAddr) -> Ends {
        Ends {
            from_mac: mac(&self.pod.mac),
            to_mac: self.gateway,
            from: if to.is_ipv4() {
                self.pod.v4
            } else {
                self.pod.v6
            },
            to,
        }
    }

    pub fn send(&self, frame: &Frame) {
        self.try_send(frame).expect("a frame that the kernel takes");
    }

    /// False: the pod's own kernel refuses it.
    pub fn try_send(&self, frame: &Frame) -> std::io::Result<()> {
        self.socket.send(&frame.bytes, frame.checksum)
    }

    /// How many packets the pod's veth has dropped before anybody judged them.
    pub fn dropped(&self) -> u64 {
        dropped(self.pod)
    }

    /// Whatever was sent before has arrived, or never will: frames that may pass have, of both families.
    pub fn fence(&self, capture: &Capture, mark: &str) {
        for (family, to) in EXT.map(ip).into_iter().enumerate() {
            let mark = format!("{mark}{family}.");
            let bytes = self.to(to).udp(443, mark.as_bytes());
            self.send(&Frame::plain(bytes));
            let seen = capture.wait_for_marker(&mark, SOON);
            assert!(seen, "{mark} is missing\n{}", self.pod.node.describe());
        }
    }
}

pub fn dropped(pod: &Pod<'_>) -> u64 {
    let read = || {
        let mut rtnl = Rtnl::open(Instant::now() + SOON).expect("a socket");
        let veth = link::get_by_name(&mut rtnl, &pod.veth).expect("a link");
        let index = veth.expect("the veth").index;
        let dropped = tc::dropped(&mut rtnl).expect("statistics");
        dropped.get(&index).copied().unwrap_or(0)
    };
    pod.node.netns.run(read)
}

/// The filters at the ingress of a pod's veth.
pub fn filters(pod: &Pod<'_>) -> Vec<tc::Filter> {
    pod.node.netns.run(|| {
        let mut rtnl = Rtnl::open(Instant::now() + SOON).expect("a socket");
        let veth = link::get_by_name(&mut rtnl, &pod.veth).expect("a link");
        tc::filters(&mut rtnl, veth.expect("the veth").index).expect("filters")
    })
}

/// The frames with this mark that arrived.
pub fn arrived(capture: &Capture, mark: &str) -> Vec<Vec<u8>> {
    let mut frames = capture.frames();
    frames.retain(|frame| contains(frame, mark.as_bytes()));
    frames
}
