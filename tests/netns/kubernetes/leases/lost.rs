//! Leases that are lost, and what is not lost with an API or a state directory.

use super::*;

#[test]
fn renewing_keeps_it_and_a_node_that_lost_it_stops() {
    let api = ApiServer::shared();
    let a = Member::new(api, "lost-a");
    let list = ["172.30.0.90/31"];
    let first = a.take("pod", "lost", &list).expect("it is free")[0];
    let renewed = || {
        let lease = api.get(&object(first)).expect("the Lease");
        lease["spec"]["renewTime"].as_str().map(str::to_owned)
    };
    let mut renewer = a.renewer();
    for _ in 0..2 {
        let before = renewed();
        assert_eq!(a.round(&mut renewer), []);
        assert_ne!(renewed(), before);
    }
    // Somebody has removed the Lease: the address is in use, it is made again.
    api.delete(&object(first));
    assert_eq!(a.round(&mut renewer), []);
    assert_eq!(holder(api, first).as_deref(), Some("lost-a"));
    let mut other = object(first);
    other["spec"] = json!({"holderIdentity": "other", "renewTime": "2100-01-01T00:00:00.000000Z"});
    api.merge(&other);
    let news = Lost {
        address: first,
        namespace: "lost".to_owned(),
        holder: "other".to_owned(),
    };
    assert_eq!(a.round(&mut renewer), [news]);
    assert!(!a.has(first));
    assert_eq!(a.round(&mut renewer), [], "it is said once");
    let second = a
        .take("next", "lost", &list)
        .expect("the other one is free")[0];
    assert_ne!(second, first);
    for pod in ["pod", "next"] {
        a.give_back(pod);
    }
    assert_eq!(
        holder(api, first).as_deref(),
        Some("other"),
        "it is not ours to remove"
    );
    assert_eq!(holder(api, second), None);
    assert_eq!(a.state.list_egress().expect("list"), Vec::<IpAddr>::new());
}

#[test]
fn what_a_lost_address_had_open_is_cut() {
    let api = ApiServer::shared();
    let mut a = Member::new(api, "cut-a");
    api.namespace("cut", &json!({"egressway.dev/egress-ip": "172.30.0.52"}));
    let kubernetes = json!({"kubeconfig": a.member.kubeconfig, "nodeName": "cut-a"});
    a.node.ours.insert("kubernetes".to_owned(), kubernetes);
    let _server = a.node.serve_ext(&[80]);
    let address: IpAddr = "172.30.0.52".parse().expect("an address");
    let pod = a
        .node
        .pod(PodSpec::new("pod", Primary::Bridge).namespace("cut"));
    assert_eq!(holder(api, address).as_deref(), Some("cut-a"));
    let probe = |want| Probe::tcp(&pod.netns, ip(FAR[0]), 80, want);
    check(&a.node, &[probe(Want::From(address))]);
    let far = SocketAddr::new(ip(FAR[0]), 80);
    let mut open = Conn::open(&pod.netns, far, exec::limit()).expect("it is reached");
    assert_eq!(open.exchange(exec::limit()), Ok(()));

    let mut other = object(address);
    other["spec"] = json!({"holderIdentity": "other", "renewTime": "2100-01-01T00:00:00.000000Z"});
    api.merge(&other);
    assert_eq!(a.round(&mut a.renewer()).len(), 1);
    assert_eq!(open.is_cut(&a.node), Outcome::Silence);
    check(&a.node, &[probe(Want::Silence)]);
    pod.delete();
    a.node.assert_nothing_left();
}

#[test]
fn an_api_that_is_down_keeps_no_pod_from_ending() {
    let api = ApiServer::shared();
    let a = Member::new(api, "down-a");
    let address = a
        .take("pod", "down", &["172.30.0.110/32"])
        .expect("it is free")[0];
    a.link.cut();
    a.give_back("pod");
    assert!(!a.has(address));
    assert_eq!(
        holder(api, address).as_deref(),
        Some("down-a"),
        "nobody could be told"
    );
    let error = a.take("more", "down", &["172.30.0.110/32"]).unwrap_err();
    assert_eq!(error.code, 11, "{error}");
    let mut renewer = a.renewer();
    assert!(a.try_round(&mut renewer).is_err());
    a.link.mend();
    assert_eq!(a.round(&mut renewer), []);
    assert_eq!(holder(api, address), None);
    assert_eq!(a.state.list_egress().expect("list"), Vec::<IpAddr>::new());
}

/// The state directory was emptied under running pods. The Lease says whose the address is, and the
/// kernel that it is on the uplink as an egress address.
#[test]
fn an_emptied_state_directory_does_not_lose_the_address() {
    let api = ApiServer::shared();
    let a = Member::new(api, "emptied-a");
    let list = ["172.30.0.36/32", "fd30::36/128"];
    let had = a.take("old", "emptied", &list).expect("free addresses");
    fs::remove_dir_all(a.node.state_dir()).expect("remove");
    let refused = a
        .take("new", "emptied", &list)
        .expect_err("whose, nobody knows");
    assert!(
        refused.msg.contains("already an address of this node"),
        "{}",
        refused.msg
    );
    // As the old pod's ADD has left it.
    a.node.netns.nft(
        "add table inet egressway
         add set inet egressway eip4 { type ipv4_addr; }
         add set inet egressway eip6 { type ipv6_addr; }
         add chain inet egressway pod-old
         add map inet egressway pod4 { type ipv4_addr : verdict; }
         add map inet egressway snat4 { type ipv4_addr : ipv4_addr; }
         add element inet egressway eip4 { 172.30.0.36 }
         add element inet egressway eip6 { fd30::36 }
         add element inet egressway pod4 { 10.244.1.2 : goto pod-old }
         add element inet egressway snat4 { 10.244.1.2 : 172.30.0.36 }",
    );
    let refused = a
        .take("new", "others", &list)
        .expect_err("another namespace's");
    assert!(refused.msg.contains("10.244.1.2"), "{}", refused.msg);
    assert_eq!(
        a.take("new", "emptied", &list).expect("its own addresses"),
        had
    );
    assert!(had.iter().all(|address| a.has(*address)));
    a.give_back("new");
}
