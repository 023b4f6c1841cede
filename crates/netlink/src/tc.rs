//! What traffic control does at the ingress of a link, before netfilter's ingress hook.
//!
//! A CNI that forwards in BPF from there (eBPF host routing) takes packets past the hooks in which
//! this program judges them. So does a redirect to an ifb device, by which the `bandwidth` plugin
//! limits what a pod sends: a packet that comes back from there skips the ingress hook
//! (`net/core/dev.c`, `skb_skip_tc_classify`).

use std::{io, ptr};

use netlink_packet_route::{
    RouteNetlinkMessage,
    tc::{TcHandle, TcMessage},
};

use super::{Error, Rtnl, netlink::Attributes};

/// Length of struct tcmsg.
const HEADER_LENGTH: usize = 20;
/// Where ingress filters hang, of a clsact and of an ingress qdisc alike (TC_H_CLSACT,
/// TC_H_MIN_INGRESS).
const INGRESS: TcHandle = TcHandle {
    major: 0xffff,
    minor: TcHandle::MIN_INGRESS,
};
/// linux/pkt_cls.h
const TCA_BPF_NAME: u16 = 7;
/// The kind of a redirecting action (net/sched/act_mirred.c), as it stands in TCA_ACT_KIND.
const MIRRED: &[u8] = b"mirred\0";
/// bpf(2): lists the programs at an attachment point (linux/bpf.h).
const BPF_PROG_QUERY: libc::c_long = 16;
/// The attachment point tcx/ingress (linux/bpf.h, Linux 6.6).
const BPF_TCX_INGRESS: u32 = 46;

/// What takes packets past netfilter's ingress hook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Detour {
    /// A BPF program, in words.
    Bpf(String),
    /// A filter that redirects to another device (tc-mirred).
    Redirect,
}

/// What takes packets past the ingress hook of a link; None if nothing does, or no such link.
///
/// The calling thread has to be in the namespace of `rtnl`: bpf(2) looks in the thread's own.
pub fn detour(rtnl: &mut Rtnl, link: u32) -> Result<Option<Detour>, Error> {
    if let Some(detour) = filter(rtnl, link)? {
        return Ok(Some(detour));
    }
    let program = tcx_program(link)
        .map_err(|cause| Error::system(format!("list the BPF programs of link {link}"), cause))?;
    Ok(program.map(|id| Detour::Bpf(format!("tcx program {id}"))))
}

/// A filter at the ingress qdisc. BPF first: it may do anything.
fn filter(rtnl: &mut Rtnl, link: u32) -> Result<Option<Detour>, Error> {
    let operation = format!("list the ingress filters of link {link}");
    let mut message = TcMessage::with_index(link.cast_signed());
    message.header.parent = INGRESS;
    let message = RouteNetlinkMessage::GetTrafficFilter(message);
    let found = rtnl.dump(&operation, message, |payload| {
        let attributes = Attributes::new(payload.get(HEADER_LENGTH..).unwrap_or_default());
        if attributes.string(libc::TCA_KIND).as_deref() == Some("bpf") {
            let options = attributes.nested(libc::TCA_OPTIONS);
            return Ok(Some(Found::Bpf(
                options.and_then(|o| o.string(TCA_BPF_NAME)),
            )));
        }
        // Each kind of filter has its actions at another place; the action's own name is the same.
        let redirects = payload.windows(MIRRED.len()).any(|bytes| bytes == MIRRED);
        Ok(redirects.then_some(Found::Mirred))
    })?;
    let is_bpf = |found: &Found| matches!(found, Found::Bpf(_));
    if !found.iter().any(is_bpf) {
        return Ok((!found.is_empty()).then_some(Detour::Redirect));
    }
    // The kernel lists a filter's head, which has no name, before the filter itself.
    let name = found.into_iter().find_map(|found| match found {
        Found::Bpf(name) => name,
        Found::Mirred => None,
    });
    Ok(Some(Detour::Bpf(match name {
        Some(name) => format!("tc filter {name}"),
        None => "tc filter without a name".into(),
    })))
}

/// A filter that matters.
enum Found {
    Bpf(Option<String>),
    Mirred,
}

/// The argument of BPF_PROG_QUERY: `union bpf_attr`'s member `query` (linux/bpf.h).
#[repr(C)]
#[derive(Default)]
struct ProgQuery {
    target_ifindex: u32,
    attach_type: u32,
    query_flags: u32,
    attach_flags: u32,
    prog_ids: u64,
    count: u32,
    padding: u32,
    prog_attach_flags: u64,
    link_ids: u64,
    link_attach_flags: u64,
    revision: u64,
}

/// The id of the first program at tcx/ingress.
fn tcx_program(link: u32) -> io::Result<Option<u32>> {
    let mut first_id = 0u32;
    let mut query = ProgQuery {
        target_ifindex: link,
        attach_type: BPF_TCX_INGRESS,
        prog_ids: (&raw mut first_id).addr() as u64,
        count: 1,
        ..ProgQuery::default()
    };
    // SAFETY: `query` has the layout that the kernel expects and its true size is passed; the
    // kernel writes into it, and at most `count` (one) id to `first_id`. Both outlive the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            BPF_PROG_QUERY,
            &raw mut query,
            size_of::<ProgQuery>(),
        )
    };
    // SAFETY: `first_id` is a live, initialised local. Read this way because the kernel wrote
    // it through an address that the compiler saw only as a number.
    let id = unsafe { ptr::read_volatile(&raw const first_id) };
    if result == 0 {
        return Ok((id != 0).then_some(id));
    }
    let cause = io::Error::last_os_error();
    match cause.raw_os_error() {
        // There are more; the first is enough.
        Some(libc::ENOSPC) => Ok(Some(id)),
        // Nothing attached; no such link; no tcx in this kernel (EINVAL); no BPF (ENOSYS).
        Some(libc::ENOENT | libc::ENODEV | libc::EINVAL | libc::ENOSYS) => Ok(None),
        _ => Err(cause),
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::{FromRawFd, OwnedFd};

    use super::*;
    use crate::test_support::{in_fresh_netns, ip, link, rtnl, run, until};

    /// Classic BPF, which needs no compiler: drop.
    const BYTECODE: [&str; 3] = ["bpf", "bytecode", "1,6 0 0 0,"];

    fn tc(arguments: &str, more: &[&str]) {
        let mut all: Vec<&str> = arguments.split_whitespace().collect();
        all.extend(more);
        run("tc", &all);
    }

    fn found(name: &str) -> Option<String> {
        match detour(&mut rtnl(), link(name).index).unwrap() {
            Some(Detour::Bpf(program)) => Some(program),
            None => None,
            Some(Detour::Redirect) => panic!("no filter redirects"),
        }
    }

    #[test]
    fn finds_a_redirect_as_the_bandwidth_plugin_makes_it() {
        in_fresh_netns(|| {
            ip("link add v0 type veth peer name v1");
            ip("link add ifb0 type ifb");
            tc("qdisc add dev v0 ingress", &[]);
            let all = "filter add dev v0 parent ffff: protocol all u32 match u32 0 0";
            tc(&format!("{all} flowid 1:1"), &[]);
            assert_eq!(detour(&mut rtnl(), link("v0").index).unwrap(), None);
            tc(
                &format!("{all} action mirred egress redirect dev ifb0"),
                &[],
            );
            let found = detour(&mut rtnl(), link("v0").index).unwrap();
            assert_eq!(found, Some(Detour::Redirect));
        });
    }

    #[test]
    fn finds_filters_of_both_kinds_of_ingress() {
        in_fresh_netns(|| {
            ip("link add v0 type veth peer name v1");
            assert_eq!(found("v0"), None);
            tc("qdisc add dev v0 clsact", &[]);
            tc("qdisc add dev v1 ingress", &[]);
            assert_eq!(found("v0"), None);
            assert_eq!(found("v1"), None);
            tc("filter add dev v0 egress", &BYTECODE);
            tc(
                "filter add dev v0 ingress u32 match u32 0 0 flowid 1:1",
                &[],
            );
            assert_eq!(found("v0"), None);
            tc("filter add dev v0 ingress", &BYTECODE);
            tc("filter add dev v1 ingress", &BYTECODE);
            assert_eq!(found("v0").as_deref(), Some("tc filter without a name"));
            assert_eq!(found("v1").as_deref(), Some("tc filter without a name"));
        });
    }

    #[test]
    fn a_missing_link_has_no_program() {
        in_fresh_netns(|| {
            assert_eq!(detour(&mut rtnl(), 4711).unwrap(), None);
        });
    }

    #[test]
    fn finds_tcx_programs() {
        in_fresh_netns(|| {
            ip("link add v0 type veth peer name v1");
            let program = load_program();
            let index = link("v0").index;
            let Some(first) = attach(&program, index) else {
                return; // Linux before 6.6 has no tcx.
            };
            let text = found("v0").unwrap();
            assert!(text.starts_with("tcx program "), "{text}");
            assert_ne!(text, "tcx program 0");
            let second = attach(&load_program(), index).unwrap();
            assert_eq!(found("v0"), Some(text));
            assert_eq!(found("v1"), None);
            drop((first, second));
            // The kernel may detach a little after the descriptor is closed.
            until("the programs go", || found("v0").is_none().then_some(()));
        });
    }

    fn bpf<T>(command: libc::c_long, attribute: &T) -> io::Result<OwnedFd> {
        // SAFETY: `attribute` is the beginning of union bpf_attr for this command, its size is
        // passed, and what it points to outlives the call.
        let result = unsafe {
            libc::syscall(
                libc::SYS_bpf,
                command,
                attribute as *const T,
                size_of::<T>(),
            )
        };
        if result < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel has just made this descriptor; nothing else owns it.
        Ok(unsafe { OwnedFd::from_raw_fd(result as libc::c_int) })
    }

    /// BPF_PROG_LOAD of a classifier that passes everything on.
    fn load_program() -> OwnedFd {
        #[repr(C)]
        struct Load {
            prog_type: u32,
            insn_cnt: u32,
            insns: u64,
            license: u64,
        }
        // r0 = -1 (TCX_NEXT); exit
        let code: [u64; 2] = [0xffff_ffff_0000_00b7, 0x95];
        let attribute = Load {
            prog_type: 3, // BPF_PROG_TYPE_SCHED_CLS
            insn_cnt: 2,
            insns: (&raw const code).addr() as u64,
            license: c"GPL".as_ptr().addr() as u64,
        };
        bpf(5, &attribute).unwrap()
    }

    /// BPF_LINK_CREATE; the program stays attached for as long as the result lives.
    fn attach(program: &OwnedFd, link: u32) -> Option<OwnedFd> {
        use std::os::fd::AsRawFd;
        let attribute: [u32; 4] = [
            program.as_raw_fd().cast_unsigned(),
            link,
            BPF_TCX_INGRESS,
            0,
        ];
        match bpf(28, &attribute) {
            Ok(attached) => Some(attached),
            Err(cause) if cause.raw_os_error() == Some(libc::EINVAL) => None,
            Err(cause) => panic!("{cause}"),
        }
    }
}
