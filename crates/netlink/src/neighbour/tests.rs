use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use super::*;
use crate::{
    Netns,
    test_support::{in_fresh_netns, ip, link, new_netns, run, soon, until, veth},
};

const V4: &str = "203.0.113.10";
const V6: &str = "2001:db8::10";

fn addresses(texts: &[&str]) -> Vec<IpAddr> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn probe_uplink(texts: &[&str]) -> Vec<Conflict> {
    let mut found = probe(
        &link("uplink"),
        &addresses(texts),
        Timing::default(),
        soon(),
    )
    .unwrap();
    found.sort_by_key(|conflict| conflict.address);
    found
}

/// A namespace at the other end of `uplink`, and its MAC there.
fn neighbour() -> (Netns, [u8; 6]) {
    let other = new_netns();
    veth("uplink", "eth0", &other);
    let mac = other.run(|| link("eth0").mac.unwrap()).unwrap();
    (other, mac)
}

/// As [`neighbour`], but `uplink` takes in only the multicast that it was told to.
fn neighbour_behind_macvlan() -> (Netns, [u8; 6]) {
    let other = new_netns();
    veth("lower", "eth0", &other);
    ip("link add link lower uplink type macvlan mode bridge");
    run("sysctl", &["-q", "net.ipv6.conf.uplink.disable_ipv6=1"]);
    ip("link set uplink up");
    let mac = other.run(|| link("eth0").mac.unwrap()).unwrap();
    (other, mac)
}

#[test]
fn silence_means_free_but_only_after_the_whole_wait() {
    in_fresh_netns(|| {
        let _other = neighbour();
        let begin = Instant::now();
        assert_eq!(probe_uplink(&[V4, V6]), []);
        assert!(begin.elapsed() >= Duration::from_millis(450));
    });
}

#[test]
fn finds_who_uses_which_address() {
    in_fresh_netns(|| {
        let (other, mac) = neighbour();
        other
            .run(|| {
                ip(&format!("addr add {V4}/32 dev eth0"));
                ip(&format!("addr add {V6}/128 dev eth0 nodad"));
            })
            .unwrap();
        let free = ["203.0.113.11", "2001:db8::11"];
        let conflicts = probe_uplink(&[free[0], V4, V6, free[1]]);
        let expected: Vec<_> = addresses(&[V4, V6])
            .into_iter()
            .map(|address| Conflict { address, mac })
            .collect();
        assert_eq!(conflicts, expected);
    });
}

#[test]
fn hears_answers_on_a_link_that_filters_multicast() {
    in_fresh_netns(|| {
        let (other, mac) = neighbour_behind_macvlan();
        other
            .run(|| ip(&format!("addr add {V6}/128 dev eth0 nodad")))
            .unwrap();
        let address = V6.parse().unwrap();
        assert_eq!(probe_uplink(&[V6]), [Conflict { address, mac }]);
    });
}

#[test]
fn ends_at_once_when_all_are_in_use() {
    in_fresh_netns(|| {
        let (other, _) = neighbour();
        other
            .run(|| ip(&format!("addr add {V4}/32 dev eth0")))
            .unwrap();
        let timing = Timing {
            tries: 1,
            interval: Duration::from_secs(9),
        };
        let begin = Instant::now();
        let found = probe(&link("uplink"), &addresses(&[V4]), timing, soon()).unwrap();
        assert_eq!(found.len(), 1);
        assert!(begin.elapsed() < Duration::from_secs(5));
    });
}

#[test]
fn finds_another_who_probes_too() {
    in_fresh_netns(|| {
        let (other, mac) = neighbour_behind_macvlan();
        let done = AtomicBool::new(false);
        let probe_on = || {
            let both = addresses(&[V4, V6]);
            let sockets = Sockets::open(&link("eth0"), &both).unwrap();
            while !done.load(Ordering::Relaxed) {
                sockets.probe(mac, &both).unwrap();
                thread::sleep(Duration::from_millis(10));
            }
        };
        let found = thread::scope(|scope| {
            scope.spawn(|| other.run(probe_on).unwrap());
            let found = probe_uplink(&[V4, V6]);
            done.store(true, Ordering::Relaxed);
            found
        });
        let expected: Vec<_> = addresses(&[V4, V6])
            .into_iter()
            .map(|address| Conflict { address, mac })
            .collect();
        assert_eq!(found, expected);
    });
}

#[test]
fn of_two_who_probe_at_the_same_time_never_both_win() {
    in_fresh_netns(|| {
        let (other, _) = neighbour();
        let probe_there = || {
            let both = addresses(&[V4, V6]);
            probe(&link("eth0"), &both, Timing::default(), soon()).unwrap()
        };
        let (here, there) = thread::scope(|scope| {
            let there = scope.spawn(|| other.run(probe_there).unwrap());
            (probe_uplink(&[V4, V6]), there.join().unwrap())
        });
        for address in addresses(&[V4, V6]) {
            let mut conflicts = here.iter().chain(&there);
            let found = conflicts.any(|conflict| conflict.address == address);
            assert!(found, "{address} is free to both");
        }
    });
}

#[test]
fn own_probes_that_come_back_are_no_conflict() {
    in_fresh_netns(|| {
        let (other, _) = neighbour();
        // What a looping switch does: every frame back to where it came from.
        other
            .run(|| {
                ip("link add br0 type bridge");
                ip("link set br0 addrgenmode none up");
                ip("link set eth0 master br0");
                run("bridge", &["link", "set", "dev", "eth0", "hairpin", "on"]);
                until("the port forwards", || {
                    let shown = run("bridge", &["link", "show", "dev", "eth0"]);
                    shown.contains("forwarding").then_some(())
                });
            })
            .unwrap();
        assert_eq!(probe_uplink(&[V4, V6]), []);
        let received = run("ip", &["-s", "link", "show", "uplink"]);
        let packets = received.lines().nth(3).unwrap().split_whitespace().nth(1);
        assert!(packets.unwrap().parse::<u32>().unwrap() >= 6, "{received}");
    });
}

#[test]
fn a_deadline_before_the_verdict_is_an_error() {
    in_fresh_netns(|| {
        let _other = neighbour();
        let deadline = Instant::now() + Duration::from_millis(440);
        let result = probe(
            &link("uplink"),
            &addresses(&[V4]),
            Timing::default(),
            deadline,
        );
        assert!(matches!(result, Err(Error::Timeout { .. })));
    });
}

#[test]
fn a_link_that_is_down_is_an_error() {
    in_fresh_netns(|| {
        let _other = neighbour();
        ip("link set uplink down");
        for address in [V4, V6] {
            let probed = addresses(&[address]);
            let error = probe(&link("uplink"), &probed, Timing::default(), soon());
            assert_eq!(error.unwrap_err().errno(), Some(libc::ENETDOWN));
            let error = announce(&link("uplink"), &probed).unwrap_err();
            assert_eq!(error.errno(), Some(libc::ENETDOWN));
        }
    });
}

#[test]
fn links_without_neighbours_are_left_alone() {
    in_fresh_netns(|| {
        let everything = addresses(&[V4, V6]);
        // Whoever waits for answers so long does not do so at all.
        let timing = Timing {
            interval: Duration::from_secs(3600),
            ..Timing::default()
        };
        let found = probe(&link("lo"), &everything, timing, soon()).unwrap();
        assert_eq!(found, []);
        announce(&link("lo"), &everything).unwrap();
    });
}

#[test]
fn an_announcement_corrects_the_neighbours() {
    in_fresh_netns(|| {
        let (other, _) = neighbour();
        other
            .run(|| {
                for address in [V4, V6] {
                    ip(&format!(
                        "neigh add {address} lladdr 02:00:00:00:00:99 dev eth0 nud stale"
                    ));
                }
            })
            .unwrap();
        let uplink = link("uplink");
        announce(&uplink, &addresses(&[V4, V6])).unwrap();
        let mac = uplink.mac.unwrap().map(|byte| format!("{byte:02x}"));
        let here = format!("lladdr {}", mac.join(":"));
        for address in [V4, V6] {
            until("the neighbour learns the new MAC", || {
                let shown = other
                    .run(|| run("ip", &["neigh", "show", address]))
                    .unwrap();
                shown.contains(&here).then_some(())
            });
        }
    });
}
