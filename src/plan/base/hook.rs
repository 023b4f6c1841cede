//! Where chains hang that see what comes in by one device.

use nft::{ChainKind, Hook, HookPoint};

/// A hook at a device's ingress.
pub(in crate::plan) fn ingress(device: &str, priority: i32, accept: bool) -> Hook {
    let point = HookPoint::Ingress(device.to_owned());
    Hook {
        kind: ChainKind::Filter,
        point,
        priority,
        accept,
    }
}
