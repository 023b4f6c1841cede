use std::{
    io,
    os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd},
};

use super::*;
use crate::bpf::{Program, tests::PASS};
use crate::test_support::{in_fresh_netns, ip, link, rtnl, run, until};

/// Classic BPF, which needs no compiler: drop.
const BYTECODE: [&str; 3] = ["bpf", "bytecode", "1,6 0 0 0,"];

fn tc(arguments: &str, more: &[&str]) {
    let mut all: Vec<&str> = arguments.split_whitespace().collect();
    all.extend(more);
    run("tc", &all);
}

fn detour_at(name: &str) -> Option<Detour> {
    detour(&mut rtnl(), link(name).index, |_| false).unwrap()
}

fn found(name: &str) -> Option<String> {
    match detour_at(name) {
        Some(Detour::Bpf(program)) => Some(program),
        None => None,
        Some(Detour::Redirect) => panic!("no filter redirects"),
    }
}

fn load_program() -> Program {
    Program::load("passes", c"GPL", &PASS).unwrap()
}

const OWN: Classifier = Classifier {
    preference: 1,
    handle: 7,
    name: "own_filter",
};

#[test]
fn finds_a_redirect_as_the_bandwidth_plugin_makes_it() {
    in_fresh_netns(|| {
        ip("link add v0 type veth peer name v1");
        ip("link add ifb0 type ifb");
        tc("qdisc add dev v0 ingress", &[]);
        let all = "filter add dev v0 parent ffff: protocol all u32 match u32 0 0";
        tc(&format!("{all} flowid 1:1"), &[]);
        assert_eq!(detour_at("v0"), None);
        tc(
            &format!("{all} action mirred egress redirect dev ifb0"),
            &[],
        );
        assert_eq!(detour_at("v0"), Some(Detour::Redirect));
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
        let leaving = |name| egress_filters(&mut rtnl(), link(name).index).unwrap();
        assert_eq!((leaving("v0").len(), leaving("v1").len()), (1, 0));
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
        assert_eq!(detour(&mut rtnl(), 4711, |_| false).unwrap(), None);
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

#[test]
fn an_own_filter_is_first_and_told_from_others() {
    in_fresh_netns(|| {
        ip("link add v0 type veth peer name v1");
        let (mut rtnl, index) = (rtnl(), link("v0").index);
        assert!(add_clsact(&mut rtnl, index).unwrap());
        assert!(!add_clsact(&mut rtnl, index).unwrap());
        let program = load_program();
        put(&mut rtnl, index, &OWN, &program).unwrap();
        put(&mut rtnl, index, &OWN, &program).unwrap();
        tc(
            "filter add dev v0 ingress u32 match u32 0 0 flowid 1:1",
            &[],
        );
        let list = filters(&mut rtnl, index).unwrap();
        let own = &list[0];
        assert_eq!((own.chain, own.preference, own.handle), (0, 1, 7));
        assert_eq!((&*own.kind, own.protocol), ("bpf", 3u16.to_be()));
        assert_eq!(own.name.as_deref(), Some("own_filter"));
        assert_eq!(own.tag, Some(program.tag));
        assert!(list[1..].iter().all(|f| f.preference > 1 && !f.is_bpf()));
        assert_eq!(found("v0").as_deref(), Some("tc filter own_filter"));
        let is_own = |filter: &Filter| filter.name.as_deref() == Some(OWN.name);
        assert_eq!(detour(&mut rtnl, index, is_own).unwrap(), None);
        // A second one is a stranger's, own or not the first.
        tc("filter add dev v0 ingress", &BYTECODE);
        let stranger = Detour::Bpf("tc filter without a name".to_owned());
        assert_eq!(detour(&mut rtnl, index, is_own).unwrap(), Some(stranger));
    });
}

#[test]
fn removing_leaves_what_is_others() {
    in_fresh_netns(|| {
        ip("link add v0 type veth peer name v1");
        let (mut rtnl, index) = (rtnl(), link("v0").index);
        tc("qdisc add dev v0 ingress", &[]);
        tc("filter add dev v0 parent ffff: pref 5", &BYTECODE);
        assert!(!add_clsact(&mut rtnl, index).unwrap());
        put(&mut rtnl, index, &OWN, &load_program()).unwrap();
        assert_eq!(filters(&mut rtnl, index).unwrap().len(), 2);
        remove(&mut rtnl, index, &OWN).unwrap();
        remove(&mut rtnl, index, &OWN).unwrap();
        let left = filters(&mut rtnl, index).unwrap();
        assert_eq!(left.iter().map(|f| f.preference).collect::<Vec<_>>(), [5]);
        remove_clsact(&mut rtnl, index).unwrap();
        remove_clsact(&mut rtnl, index).unwrap();
        remove(&mut rtnl, index, &OWN).unwrap();
        for gone in [
            remove_clsact(&mut rtnl, 4711),
            remove(&mut rtnl, 4711, &OWN),
        ] {
            gone.unwrap();
        }
    });
}

/// A filter of another kind has the place: nothing can be put before it.
#[test]
fn a_taken_place_is_refused() {
    in_fresh_netns(|| {
        ip("link add v0 type veth peer name v1");
        let (mut rtnl, index) = (rtnl(), link("v0").index);
        tc("qdisc add dev v0 clsact", &[]);
        tc(
            "filter add dev v0 ingress pref 1 u32 match u32 0 0 flowid 1:1",
            &[],
        );
        let error = put(&mut rtnl, index, &OWN, &load_program()).unwrap_err();
        assert!(error.is_any_of(&[libc::EINVAL, libc::EEXIST]), "{error}");
    });
}

#[test]
fn drops_are_counted_a_link() {
    in_fresh_netns(|| {
        ip("link add v0 type veth peer name v1");
        for link in ["v0", "v1"] {
            ip(&format!("link set {link} addrgenmode none up"));
        }
        let (mut rtnl, index) = (rtnl(), link("v0").index);
        assert_eq!(dropped(&mut rtnl).unwrap().get(&index), None);
        tc("qdisc add dev v0 clsact", &[]);
        tc(
            "filter add dev v0 ingress",
            &["bpf", "da", "bytecode", "1,6 0 0 2,"],
        );
        assert_eq!(dropped(&mut rtnl).unwrap()[&index], 0);
        run(
            "/usr/bin/python3",
            &[
                "-c",
                "import socket\ns = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)\ns.bind(('v1', 0))\nfor _ in range(3): s.send(b'\\xff' * 60)",
            ],
        );
        until("three drops", || {
            (dropped(&mut rtnl).unwrap()[&index] == 3).then_some(())
        });
    });
}

/// BPF_LINK_CREATE; the program stays attached for as long as the result lives.
fn attach(program: &Program, link: u32) -> Option<OwnedFd> {
    // target_ifindex after the program's descriptor, then BPF_TCX_INGRESS, flags
    let attribute: [u32; 4] = [program.as_fd().as_raw_fd().cast_unsigned(), link, 46, 0];
    // SAFETY: `attribute` is the beginning of union bpf_attr for this command, its size is passed,
    // and it outlives the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            28,
            attribute.as_ptr(),
            size_of_val(&attribute),
        )
    };
    if result < 0 {
        let cause = io::Error::last_os_error();
        assert_eq!(cause.raw_os_error(), Some(libc::EINVAL), "{cause}");
        return None;
    }
    // SAFETY: the kernel has just made this descriptor; nothing else owns it.
    Some(unsafe { OwnedFd::from_raw_fd(result as libc::c_int) })
}
