//! What one row of the table says.

/// Where a frame is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Any frame that ext receives, any datagram that it takes.
    Outside,
    /// Any frame that the other pod receives, any datagram that it takes.
    Victim,
    /// What the node takes for itself.
    Node,
    /// The other pod's neighbour table, which then has the attacker's MAC for somebody else's address.
    VictimsNeighbours,
    /// The node's neighbour table, the same.
    NodesNeighbours,
}

impl Place {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Outside => "outside",
            Self::Victim => "other pod",
            Self::Node => "node",
            Self::VictimsNeighbours => "other pod's neighbours",
            Self::NodesNeighbours => "node's neighbours",
        }
    }
}

/// A set of topologies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct On(u8);

impl On {
    pub const NOWHERE: Self = Self(0);
    pub const BRIDGE: Self = Self(1);
    pub const BRIDGE_NF: Self = Self(2);
    pub const PTP: Self = Self(4);
    pub const CALICO: Self = Self(8);
    pub const BRIDGES: Self = Self(3);
    pub const ALL: Self = Self(15);

    pub const fn has(self, one: Self) -> bool {
        self.0 & one.0 == one.0
    }
}

/// One thing that a pod tries.
#[derive(Debug)]
pub struct Case {
    /// In words, unique.
    pub what: &'static str,
    /// Python, with scapy's names and those of `scene`; `m` is the payload that is looked for.
    pub sends: &'static str,
    pub at: Place,
    /// Where it arrives without the plugin.
    pub without: On,
    /// Where it arrives with the plugin, for a pod that may do everything.
    pub open: On,
    /// Where it arrives with the plugin, for a pod that may reach port 10 and nothing else.
    pub closed: On,
    /// Why it may arrive, or why it does not even without the plugin.
    pub why: &'static str,
}

/// What no pod may do, whatever its rules say. `without`: where it would work.
pub const fn never(at: Place, without: On, what: &'static str, sends: &'static str) -> Case {
    Case {
        what,
        sends,
        at,
        without,
        open: On::NOWHERE,
        closed: On::NOWHERE,
        why: "",
    }
}

/// What arrives if the rules allow it, and does not if they don't.
pub const fn judged(at: Place, on: On, what: &'static str, sends: &'static str) -> Case {
    Case {
        open: on,
        ..never(at, on, what, sends)
    }
}

/// What arrives, and why that is right.
pub const fn allowed(
    at: Place,
    on: On,
    what: &'static str,
    sends: &'static str,
    why: &'static str,
) -> Case {
    Case {
        closed: on,
        why,
        ..judged(at, on, what, sends)
    }
}

impl Case {
    /// Where it arrives for a pod that may do everything, if that is not where it arrives without the plugin.
    pub const fn open(self, open: On) -> Self {
        Self { open, ..self }
    }

    pub const fn why(self, why: &'static str) -> Self {
        Self { why, ..self }
    }
}

/// Cases of one kind.
#[derive(Debug)]
pub struct Group {
    pub title: &'static str,
    pub cases: &'static [Case],
}
