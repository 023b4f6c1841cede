//! The operator's tool beside running traffic.

use crate::harness::cni::binary;
use crate::harness::exec;
use crate::harness::nflog;
use crate::harness::node::{EXT, METADATA, ip};
use crate::harness::probe::try_udp;
use crate::harness::*;
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

/// A rule's packets in the JSON of `show POD`.
pub fn counted(detail: &Value, rule: &str) -> Value {
    let rules = detail["tiers"].as_array().expect("tiers").iter();
    let rules = rules.flat_map(|tier| tier["rules"].as_array().expect("rules"));
    let found = rules.into_iter().find(|r| r["rule"] == rule);
    let found = found.unwrap_or_else(|| panic!("no {rule} in {detail:#}"));
    found["counted"]["packets"].clone()
}

#[test]
fn show_counts_as_packets_go() {
    let node = Node::new(NodeOptions::default());
    node.set_policy(
        &Policy::default()
            .enforced("deny to metadata name=no-metadata")
            .set("exemptNamespaces", json!(["kube-system"]))
            .namespace("shop", "egress-ip", "172.30.0.50, fd30::50"),
    );
    let before = node.tool("show");
    assert_eq!((before.code, before.stdout_text().as_str()), (Some(0), ""));
    assert!(
        before.stderr.contains("no pod is attached"),
        "{}",
        before.stderr
    );

    let web = node.pod(PodSpec::new("web", Primary::Bridge).rules("reject 7001/udp\nallow"));
    let twin = node.pod(PodSpec::new("twin", Primary::Bridge).rules("reject 7001/udp\nallow"));
    let dns = node.pod(PodSpec::new("dns", Primary::Ptp).namespace("kube-system"));
    let _servers = node.serve_ext(&[7002]);
    let mut probes = Vec::new();
    for n in 0..2 {
        probes.push(Probe::udp(&web.netns, ip(METADATA[n]), 80, Want::Silence));
        probes.push(Probe::udp(&web.netns, ip(EXT[n]), 7001, Want::Prohibited));
        probes.push(Probe::udp(&web.netns, ip(EXT[n]), 7002, Want::Reached));
        probes.push(Probe::udp(&twin.netns, ip(EXT[n]), 7001, Want::Prohibited));
    }
    check(&node, &probes);

    let list = node.tool_json("show -o json");
    let rows = list["attachments"].as_array().expect("attachments");
    let names: Vec<_> = rows.iter().map(|row| &row["pod"]).collect();
    assert_eq!(names, ["dns", "twin", "web"]);
    for row in rows {
        assert_eq!(
            (&row["state"], &row["problems"]),
            (&json!("ok"), &json!([])),
            "{row:#}"
        );
    }
    assert_eq!(rows[0]["mode"], "exempt");
    assert_eq!(rows[0]["addresses"], json!(dns.addresses()));
    let row = &rows[2];
    assert_eq!(row["id"], web.id());
    assert_eq!(row["addresses"], json!(web.addresses()));
    assert_eq!(
        (&row["veth"], &row["bridge"]),
        (&json!(web.veth), &json!("cni0"))
    );
    assert_eq!(row["egressIPs"], json!(["172.30.0.50", "fd30::50"]));
    // Two a family were stopped, and one went.
    assert_eq!(
        (&row["judged"]["packets"], &row["denied"]["packets"]),
        (&json!(6), &json!(4))
    );
    assert_eq!(rows[1]["denied"]["packets"], 2);
    let last = |row: &Value| row["lastDeny"].as_str().map(str::to_owned);
    assert_eq!(last(&rows[0]), None);
    let time: jiff::Timestamp = last(row).expect("a time").parse().expect("a time");
    let age = jiff::Timestamp::now().duration_since(time).as_secs();
    assert!((0..300).contains(&age), "{row:#}");
    assert_eq!(list["leakStop"], json!({"packets": 0, "bytes": 0}));

    let detail = node.tool_json("show shop/web -o json");
    assert_eq!(detail["policyUsers"], 2);
    assert_eq!(detail["problems"], json!([]));
    assert_eq!(counted(&detail, "cluster-enforced:no-metadata"), 2);
    // Counted together, over both pods.
    assert_eq!(counted(&detail, "pod:1"), 4);
    assert_eq!(counted(&detail, "pod:2"), 2);
    assert_eq!(detail["droppedAtVeth"]["packets"], 0);
    // Two rules have denied: it is not known which was the last.
    assert_eq!(detail["lastDenyRule"], Value::Null);
    let detail = node.tool_json("show kube-system/dns -o json");
    assert_eq!(
        (&detail["lastDeny"], &detail["lastDenyRule"]),
        (&Value::Null, &Value::Null)
    );

    scapy(
        &web.netns,
        &format!(
            "tx(Ether(src='{}', dst='ff:ff:ff:ff:ff:ff')/IP(src='10.99.0.1', dst='10.0.0.1')/UDP())",
            web.mac
        ),
    );
    let detail = node.tool_json(&format!("show {} -o json", web.v6));
    assert_eq!(detail["droppedAtVeth"]["packets"], 1);

    let text = node.tool("show web").stdout_text();
    assert!(
        text.contains("cluster-enforced:no-metadata   deny to metadata"),
        "{text}"
    );
    assert!(text.is_ascii() && !text.contains('\u{1b}'), "{text:?}");
    node.netns
        .nft(&format!("flush chain inet egressway pod-{}", web.id()));
    let text = node.tool("show --namespace shop").stdout_text();
    assert_eq!(text.lines().count(), 3, "{text}");
    assert!(
        text.contains(&format!("chain pod-{} is empty", web.id())),
        "{text}"
    );
}

/// A full node is shown in well under a second, since the kernel is asked no more often than on an empty one.
#[test]
fn show_asks_little_more_for_a_further_pod() {
    let node = Node::new(NodeOptions::default());
    let trace = node.dir.path().join("requests");
    let requests = || {
        let show = format!(
            "strace -f -e trace=sendto,sendmsg -o {} {} show --state-dir {}",
            trace.display(),
            binary("egressway").display(),
            node.state_dir().display()
        );
        let shown = node.netns.exec(&show).lines().count();
        let calls = fs::read_to_string(&trace).expect("a trace");
        (shown, calls.matches("send").count())
    };
    let _first = node.pod(PodSpec::new("p0", Primary::Ptp).rules("deny 25/tcp"));
    let one = requests();
    let specs = (1..5).map(|n| PodSpec::new(&format!("p{n}"), Primary::Ptp).rules("deny 26/tcp"));
    let _more: Vec<_> = specs.map(|spec| node.pod(spec)).collect();
    assert!(one.1 > 5, "{one:?}");
    // The kernel tells of filters and of the other ends of veths one by one: four requests a pod.
    assert_eq!(requests(), (one.0 + 4, one.1 + 4 * 4));
}

#[test]
fn show_needs_a_capability_and_says_so() {
    let node = Node::new(NodeOptions::default());
    let _pod = node.pod(PodSpec::new("web", Primary::Bridge));
    let line = format!(
        "setpriv --bounding-set -net_admin --inh-caps -net_admin {} show --state-dir {}",
        binary("egressway").display(),
        node.state_dir().display()
    );
    let output = node.netns.try_exec(&line);
    assert_eq!((output.code, output.stdout.len()), (Some(1), 0));
    assert!(
        output.stderr.contains("CAP_NET_ADMIN is needed"),
        "{}",
        output.stderr
    );
}

#[test]
fn captured_denials_read_back() {
    let node = Node::new(NodeOptions::default());
    let web = node
        .pod(PodSpec::new("web", Primary::Bridge).rules("deny 9001/udp log\nallow 9002/udp log"));
    let other = node.pod(PodSpec::new("other", Primary::Bridge).rules("deny 9001/udp log"));
    let _servers = node.serve_ext(&[9002]);
    let file = node.dir.path().join("denied.pcap");
    let words = format!("capture web --count 2 --for 10 -w {}", file.display());
    let running = node.netns.spawn(&mut node.tool_command(&words));
    until_exists(&file);
    let mut probes = Vec::new();
    for to in EXT.map(ip) {
        probes.push(Probe::udp(&other.netns, to, 9001, Want::Silence));
        probes.push(Probe::udp(&web.netns, to, 9002, Want::Reached));
        probes.push(Probe::udp(&web.netns, to, 9001, Want::Silence));
    }
    check(&node, &probes);
    let output = exec::finish(running, b"", &words);
    assert_eq!(output.code, Some(0), "{}", output.stderr);
    let told = "packets written of shop/web: 2";
    assert!(output.stderr.contains(told), "{}", output.stderr);

    let text = node
        .netns
        .exec(&format!("tcpdump -n -r {}", file.display()));
    assert_eq!(text.lines().count(), 2, "{text}");
    for (n, address) in web.addresses().iter().enumerate() {
        let end = format!("> {}.9001: UDP, length 8", EXT[n]);
        let line = text.lines().find(|line| line.contains(&end));
        let line = line.unwrap_or_else(|| panic!("no {end} in {text}"));
        assert!(line.contains(&format!(" {address}.")), "{line}");
    }

    // A terminal gets no binary.
    let inner = format!(
        "{} capture web --state-dir {}",
        binary("egressway").display(),
        node.state_dir().display()
    );
    let mut script = Command::new("script");
    script.args(["-qec", &inner, "/dev/null"]);
    let output = node.netns.exec_with(&mut script, b"");
    assert_eq!(output.code, Some(1));
    let told = output.stdout_text();
    assert!(told.contains("a pcap file is not for a terminal"), "{told}");
}

#[test]
fn a_capture_goes_through_a_pipe_until_interrupted() {
    let node = Node::new(NodeOptions::default());
    let web = node.pod(PodSpec::new("web", Primary::Bridge).rules("deny 9001/udp log"));
    let mut piped = Command::new("sh");
    piped.args([
        "-c",
        "$0 capture web --state-dir $1 | tcpdump -n -r - -c 1; $0 capture web --state-dir $1 >$2",
    ]);
    let file = node.dir.path().join("denied.pcap");
    piped
        .arg(binary("egressway"))
        .arg(node.state_dir())
        .arg(&file);
    let running = node.netns.spawn(&mut piped);
    // tcpdump has enough after one packet, and the pipe's end ends the first capture.
    let started = Instant::now();
    while fs::metadata(&file).map_or(0, |data| data.len()) <= 24 {
        assert!(started.elapsed() < exec::seconds(10), "{}", node.describe());
        let _ = try_udp(
            &web.netns,
            (ip(EXT[0]), 9001).into(),
            Duration::from_millis(100),
        );
    }
    let second = node.netns.exec("cat /proc/net/netfilter/nfnetlink_log");
    let process = second
        .split_whitespace()
        .nth(1)
        .expect("a reader of the group");
    node.netns.exec(&format!("kill -INT {process}"));
    let output = exec::finish(running, b"", "sh");
    assert_eq!(output.code, Some(0), "{}", output.stderr);
    let text = output.stdout_text();
    assert!(text.contains(&format!("> {}.9001: UDP", EXT[0])), "{text}");
    let told = output.stderr.matches("packets written of shop/web: ");
    assert_eq!(told.count(), 2, "{}", output.stderr);
}

fn until_exists(file: &Path) {
    for _ in 0..500 {
        // The header is written once the group is read.
        if fs::metadata(file).is_ok_and(|data| data.len() > 0) {
            return;
        }
        thread::sleep(Duration::from_millis(10));
    }
    panic!("{} was never written", file.display());
}

/// Where the kernel can tell it, `logs` says where a pod sent what a Service translated; where it can't,
/// that it can't.
#[test]
fn logs_name_the_service_behind_which_a_destination_is() {
    let node = Node::new(NodeOptions::default());
    node.netns.nft(
        "table inet services {
           chain translate {
             type nat hook prerouting priority -100;
             ip daddr 10.96.0.20 udp dport 80 dnat ip to 172.30.0.100:9001
             ip6 daddr fd96::20 udp dport 80 dnat ip6 to [fd30::100]:9001
           }
         }",
    );
    let web = node.pod(PodSpec::new("web", Primary::Bridge).rules("deny 9001/udp log"));
    let running = node
        .netns
        .spawn(&mut node.tool_command("logs -o json --count 4 --for 30"));
    nflog::until_read(&node.netns);
    let mut probes = Vec::new();
    for to in ["10.96.0.20", "fd96::20"].map(ip) {
        probes.push(Probe::udp(&web.netns, to, 80, Want::Silence));
    }
    for to in EXT.map(ip) {
        probes.push(Probe::udp(&web.netns, to, 9001, Want::Silence));
    }
    check(&node, &probes);
    let output = exec::finish(running, b"", "logs");
    assert_eq!(output.code, Some(0), "{}", output.stderr);
    let lines: Vec<Value> = output
        .stdout_text()
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    assert_eq!(lines.len(), 4, "{lines:?}");
    let untold = output.stderr.contains("CONFIG_NETFILTER_NETLINK_GLUE_CT");
    for line in &lines {
        let to = line["destination"].as_str().expect("a destination");
        assert!(
            EXT.contains(&to) && line["destinationPort"] == 9001,
            "{line}"
        );
    }
    let originals: Vec<_> = lines
        .iter()
        .filter_map(|line| {
            let port = line.get("originalDestinationPort")?.as_u64()?;
            Some((line["originalDestination"].as_str()?, port))
        })
        .collect();
    if untold {
        assert_eq!(originals, []);
    } else {
        assert_eq!(originals.len(), 2, "{lines:?}");
        assert!(originals.contains(&("10.96.0.20", 80)) && originals.contains(&("fd96::20", 80)));
    }
}
