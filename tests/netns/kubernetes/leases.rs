//! Egress addresses held by Leases: several nodes, one API server.

use crate::harness::cluster::{ACCOUNT, ApiServer, Link, SYSTEM};
use crate::harness::egress::uplink;
use crate::harness::node::{FAR, ip};
use crate::harness::*;
use egressway::agent::leases::{Lost, Renewer};
use egressway::agent::worker::Worker;
use egressway::cluster::leases::{self, Leases};
use egressway::cluster::{self, Client, TimeLimit};
use egressway::egress::{self, Claim, Claimant, Member as OfCluster};
use egressway::lifecycle::ByLeases;
use egressway::refusal::CniError;
use egressway::setup::options::LEASE_SECONDS;
use egressway::store::{AttachmentId, StateDir, attachment_id};
use nft::Family;
use serde_json::{Value, json};
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::thread;
use std::time::{Duration, Instant};

mod lost;

/// A node of the cluster. Each has a network of its own: what keeps them apart is the API alone.
struct Member<'a> {
    node: Node,
    link: Link<'a>,
    member: OfCluster,
    state: StateDir,
}

impl<'a> Member<'a> {
    fn new(api: &'a ApiServer, name: &str) -> Self {
        let node = Node::new(NodeOptions {
            dad: true,
            ..NodeOptions::default()
        });
        let link = api.connect(&node.netns);
        let token = api.token(SYSTEM, ACCOUNT);
        let member = OfCluster {
            kubeconfig: api.kubeconfig(&node.dir.path().join("kube"), &token),
            node: name.to_owned(),
        };
        let state = StateDir::new(node.state_dir());
        Self {
            node,
            link,
            member,
            state,
        }
    }

    /// What an ADD does: takes the addresses, and writes its record. The annotation is `list`.
    fn take(&self, pod: &str, namespace: &str, list: &[&str]) -> Result<Vec<IpAddr>, CniError> {
        let id = id(pod);
        let list: Vec<_> = list
            .iter()
            .map(|net| net.parse().expect("a network"))
            .collect();
        let claim: Claim = self.node.netns.run(|| {
            let claimant = Claimant {
                state: &self.state,
                id: &id,
                namespace,
                uplink: Some("eth0"),
                member: Some(&self.member),
                registry: &ByLeases,
                arp_probe: true,
                deadline: deadline(),
            };
            claimant.take(&list, &[Family::V4, Family::V6])
        })?;
        // That there is one is all that counts here.
        let record = self.state.attachment_path(&id);
        fs::create_dir_all(record.parent().expect("a directory")).expect("make it");
        fs::write(record, "{}").expect("write a record");
        Ok(claim.addresses.clone())
    }

    /// What a DEL does.
    fn give_back(&self, pod: &str) {
        let id = id(pod);
        self.node.netns.run(|| {
            let release = egress::release(&self.state, &id, deadline());
            release.finish(&self.state, &ByLeases, deadline());
        });
        self.state
            .remove_attachment(&id)
            .expect("remove the record");
    }

    fn renewer(&self) -> Renewer {
        self.renewer_that_waits(Duration::ZERO)
    }

    /// `coming_back`: how long it keeps what no pod has asked for yet.
    fn renewer_that_waits(&self, coming_back: Duration) -> Renewer {
        let worker = self.node.netns.run(Worker::start);
        Renewer::new(self.state.clone(), worker.expect("a thread"), coming_back)
    }

    /// One round of the agent's, which may fail.
    fn try_round(&self, renewer: &mut Renewer) -> Result<Vec<Lost>, cluster::Error> {
        self.try_round_for(renewer, Duration::from_secs(60))
    }

    /// The same, where the agent's Leases last for this long.
    fn try_round_for(
        &self,
        renewer: &mut Renewer,
        duration: Duration,
    ) -> Result<Vec<Lost>, cluster::Error> {
        self.node.netns.run(|| {
            cluster::run(async {
                let limit = TimeLimit::Each(Duration::from_secs(5));
                let client = Client::that_stays(&self.member.kubeconfig, limit)?;
                let leases = Leases::of(client, &self.member.node, duration);
                renewer.round(&leases).await
            })
        })
    }

    fn round(&self, renewer: &mut Renewer) -> Vec<Lost> {
        self.try_round(renewer).unwrap_or_else(|e| panic!("{e}"))
    }

    fn has(&self, address: IpAddr) -> bool {
        let length = if address.is_ipv4() { 32 } else { 128 };
        uplink(&self.node).contains(&format!("{address}/{length}"))
    }
}

fn id(pod: &str) -> AttachmentId {
    attachment_id("pods", pod, "eth0")
}

fn deadline() -> Instant {
    Instant::now() + exec::limit()
}

fn object(address: IpAddr) -> Value {
    json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": {"name": leases::name(address), "namespace": SYSTEM},
    })
}

fn holder(api: &ApiServer, address: IpAddr) -> Option<String> {
    let lease = api.get(&object(address))?;
    lease["spec"]["holderIdentity"].as_str().map(str::to_owned)
}

/// Makes a Lease of a node that is not there.
fn held_by(api: &ApiServer, address: &str, node: &str, renewed: jiff::Timestamp) {
    let mut lease = object(address.parse().expect("an address"));
    lease["spec"] = json!({
        "holderIdentity": node, "leaseDurationSeconds": 1,
        "renewTime": format!("{renewed:.6}"), "leaseTransitions": 3,
    });
    api.create(&lease);
}

#[test]
fn a_node_takes_holds_and_gives_back() {
    let api = ApiServer::shared();
    let a = Member::new(api, "take-a");
    let list = ["172.30.0.40/30", "fd30::40/126"];
    let taken = a.take("one", "take", &list).expect("it is free");
    assert_eq!(taken.len(), 2);
    for address in &taken {
        assert_eq!(holder(api, *address).as_deref(), Some("take-a"));
        assert!(a.has(*address), "{address}");
        let lease = api.get(&object(*address)).expect("the Lease");
        assert_eq!(lease["spec"]["leaseDurationSeconds"], 60);
        for key in ["acquireTime", "renewTime"] {
            assert!(lease["spec"][key].is_string(), "{lease}");
        }
    }
    a.link.cut();
    assert_eq!(
        a.take("two", "take", &list).as_ref(),
        Ok(&taken),
        "without a question"
    );
    a.give_back("one");
    a.link.mend();
    assert!(
        taken.iter().all(|address| a.has(*address)),
        "two still needs them"
    );
    a.give_back("two");
    for address in taken {
        assert_eq!(holder(api, address), None);
        assert!(!a.has(address));
    }
    assert_eq!(a.state.list_egress().expect("list"), Vec::<IpAddr>::new());
}

#[test]
fn two_nodes_never_hold_one_address() {
    let api = ApiServer::shared();
    let members = [Member::new(api, "race-a"), Member::new(api, "race-b")];
    let race = |list: &[&str]| {
        thread::scope(|scope| {
            let takes = members
                .each_ref()
                .map(|member| scope.spawn(move || member.take("pod", "race", list)));
            takes.map(|take| take.join().expect("no panic"))
        })
    };
    for _ in 0..8 {
        let outcomes = race(&["172.30.0.60/32"]);
        let winners = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
        assert_eq!(winners, 1, "{outcomes:?}");
        for (member, outcome) in members.iter().zip(&outcomes) {
            let address = "172.30.0.60".parse().expect("an address");
            assert_eq!(member.has(address), outcome.is_ok());
            if let Err(e) = outcome {
                assert_eq!(e.code, 11, "{e}");
                assert!(
                    e.msg.contains("172.30.0.60") && e.msg.contains("node"),
                    "{e}"
                );
            }
        }
        members.iter().for_each(|member| member.give_back("pod"));
    }
    for _ in 0..4 {
        let outcomes = race(&["172.30.0.61/32", "172.30.0.62/32"]);
        let taken = outcomes.map(|outcome| outcome.expect("one for each"));
        assert_ne!(taken[0], taken[1]);
        members.iter().for_each(|member| member.give_back("pod"));
    }
}

#[test]
fn all_taken_says_which_and_by_whom() {
    let api = ApiServer::shared();
    let now = jiff::Timestamp::now() + Duration::from_secs(3600);
    held_by(api, "172.30.0.70", "far-1", now);
    held_by(api, "172.30.0.71", "far-2", now);
    let a = Member::new(api, "full-a");
    let error = a.take("pod", "full", &["172.30.0.70/31"]).unwrap_err();
    assert_eq!(error.code, 11);
    for said in [
        "172.30.0.70 is held by node far-1",
        "172.30.0.71 is held by node far-2",
    ] {
        assert!(error.msg.contains(said), "{error}");
    }
}

#[test]
fn a_node_started_again_finds_its_own() {
    let api = ApiServer::shared();
    let a = Member::new(api, "again-a");
    let list = ["172.30.0.128/26"];
    let first = a.take("before", "again", &list).expect("it is free");
    let restart = || {
        std::fs::remove_dir_all(a.node.state_dir()).expect("lose the state");
        a.node
            .netns
            .ip(&format!("addr del {}/32 dev eth0", first[0]));
    };
    restart();
    assert_eq!(a.take("after", "again", &list).as_ref(), Ok(&first));
    restart();
    // The node boots: its pods come back in a moment.
    let renewed = || api.get(&object(first[0])).expect("the Lease")["spec"]["renewTime"].clone();
    let before = renewed();
    let mut renewer = a.renewer_that_waits(Duration::from_secs(3600));
    assert_eq!(a.round(&mut renewer), []);
    assert_eq!(holder(api, first[0]).as_deref(), Some("again-a"));
    assert_ne!(renewed(), before);
    let mut renewer = a.renewer();
    assert_eq!(a.round(&mut renewer), []);
    assert_eq!(holder(api, first[0]), None, "no pod has asked for it");
}

/// By the Lease's own times: it ends soon enough for another node's pod start to wait for it, which then takes it.
#[test]
fn a_dead_nodes_address_is_free_within_one_pod_start() {
    let api = ApiServer::shared();
    let [dead, other] = ["dead-a", "dead-b"].map(|name| Member::new(api, name));
    let list = ["172.30.0.90/32"];
    let taken = dead.take("pod", "dead", &list).expect("it is free");
    let mut renewer = dead.renewer();
    let lasts = Duration::from_secs(LEASE_SECONDS);
    let renewed = dead.try_round_for(&mut renewer, lasts);
    assert_eq!(renewed.expect("renewed"), []);
    let lease = api.get(&object(taken[0])).expect("the Lease");
    assert_eq!(lease["spec"]["leaseDurationSeconds"], LEASE_SECONDS);
    let lease = serde_json::from_value(lease).expect("a Lease");
    let left = leases::held_for(&lease, jiff::Timestamp::now()).expect("an end");
    assert!(left <= lasts + lasts / 4, "{left:?}");
    assert!(
        lasts + lasts / 4 < Duration::from_secs(9),
        "an ADD has ten, for all it does"
    );
    let takes_over = other.take("pod", "dead", &list);
    assert_eq!(takes_over.as_ref(), Ok(&taken));
    assert_eq!(holder(api, taken[0]).as_deref(), Some("dead-b"));
    let lost = dead.round(&mut renewer);
    assert_eq!(lost.len(), 1, "{lost:?}");
    assert!(!dead.has(taken[0]));
    other.give_back("pod");
}

#[test]
fn an_expired_lease_is_taken_when_nobody_answers() {
    let api = ApiServer::shared();
    held_by(
        api,
        "172.30.0.80",
        "gone",
        jiff::Timestamp::now() - Duration::from_secs(100),
    );
    let a = Member::new(api, "expired-a");
    a.node.ext.ip("addr add 172.30.0.80/24 dev eth0");
    let error = a.take("pod", "expired", &["172.30.0.80/32"]).unwrap_err();
    assert!(
        error.code == 11 && error.msg.contains("answers for it"),
        "{error}"
    );
    let address: IpAddr = "172.30.0.80".parse().expect("an address");
    assert_eq!(
        holder(api, address).as_deref(),
        Some("gone"),
        "it is left alone"
    );
    a.node.ext.ip("addr del 172.30.0.80/24 dev eth0");
    a.take("pod", "expired", &["172.30.0.80/32"])
        .expect("it is silent");
    let lease = api.get(&object(address)).expect("the Lease");
    assert_eq!(lease["spec"]["holderIdentity"], "expired-a");
    assert_eq!(lease["spec"]["leaseTransitions"], 4);
    a.give_back("pod");
}
