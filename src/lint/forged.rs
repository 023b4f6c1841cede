//! Packets whose checksum would be written behind the rules: what conflists among the files say of them, and
//! which pods could send some.

use super::annotations::place;
use super::finding::Findings;
use super::items;
use super::kind;
use super::text::Text;
use super::yaml::{self, Document, NodeView};
use crate::conf::TYPE;
use crate::guard::Mode;
use rules::fault::Complaint;

const KEY: &str = "forgedChecksums";
/// The same for `agent` and `install`.
const OPTION: &str = "--forged-checksums";
/// With which a pod can send such packets; every runtime gives it, unless it is dropped.
const CAPABILITIES: [&str; 3] = ["ALL", "NET_RAW", "CAP_NET_RAW"];
/// What is in the names of RuntimeClasses that run pods as virtual machines.
const VIRTUAL: [&str; 3] = ["kata", "firecracker", "cloud-hypervisor"];

/// What one entry or one command says, and where in the file.
struct Setting {
    mode: Mode,
    at: (usize, usize),
}

/// Whether a conflist among the documents ignores such packets.
pub(super) fn is_ignored(outer: &Text, document: &Document) -> bool {
    let all = settings(outer, document);
    all.iter().any(|setting| setting.mode == Mode::Ignore)
}

/// Whether a document is a conflist.
pub(super) fn is_conflist(document: &Document) -> bool {
    let plugins = document.root().and_then(|root| root.get("plugins"));
    plugins.is_some_and(NodeView::is_sequence)
}

/// Says what a setting costs.
pub(super) fn check(findings: &mut Findings<'_>, outer: &Text, document: &Document) {
    for Setting { mode, at } in settings(outer, document) {
        let complaint = match mode {
            Mode::Drop => continue,
            Mode::Ignore => Complaint::new(
                "with `ignore`, a pod with NET_RAW, or a guest, can send another port, address or protocol than the rules saw: on every NIC",
            )
            .help("leave it out, unless no pod of these nodes has NET_RAW or runs a guest"),
            Mode::Resolve => Complaint::new(
                "with `resolve`, the pods' kernel writes all checksums, which costs more than half of a pod's TCP throughput",
            )
            .help("leave it out: it is what nodes get by themselves whose kernel can do no better"),
        };
        findings.add(&kind::FORGED_CHECKSUMS, at, complaint);
    }
}

/// Says that a pod could send such packets where a conflist, the one of this file, ignores them.
pub(super) fn check_pod(
    findings: &mut Findings<'_>,
    outer: &Text,
    spec: NodeView<'_>,
    conflist: &str,
) {
    let mut say = |at, what: &str| {
        let complaint = Complaint::new(format!(
            "{what}, and {conflist} ignores forged checksums: it can send another port, address or protocol than the rules saw"
        ));
        findings.add(
            &kind::FORGED_CHECKSUMS,
            place(outer, at),
            complaint.help("set `forgedChecksums: drop` there, or drop NET_RAW and run no guest"),
        );
    };
    let class = spec.get("runtimeClassName");
    let is_virtual = |class: &NodeView<'_>| {
        let name = class.as_str().unwrap_or_default();
        VIRTUAL.iter().any(|word| name.contains(word))
    };
    if let Some(class) = class.filter(is_virtual) {
        say(
            class,
            "this pod is a virtual machine, whose guest needs no NET_RAW",
        );
        return;
    }
    for container in items::containers(spec) {
        let is_added = capabilities(container, "add").next().is_some();
        if is_added || capabilities(container, "drop").next().is_none() {
            let at = container.get("name").unwrap_or(container);
            say(at, "this container keeps NET_RAW");
        }
    }
}

/// Says that a pod asks for what it could send such packets with, whether or not anybody ignores them.
pub(super) fn check_added(findings: &mut Findings<'_>, outer: &Text, spec: NodeView<'_>) {
    for container in items::containers(spec) {
        let raw =
            |one: &NodeView<'_>| !one.as_str().unwrap_or_default().eq_ignore_ascii_case("ALL");
        let name = items::string(container, "name");
        for found in capabilities(container, "add").filter(raw) {
            let complaint = Complaint::new(format!(
                "the container {name} has NET_RAW: it can send raw packets, and its rules hold only where the conflist does not say `forgedChecksums: ignore`"
            ))
            .help("remove it if the pod does not need it: `drop: [NET_RAW]`");
            findings.add(&kind::RAW_PACKETS, place(outer, found), complaint);
        }
    }
}

/// Those in the list `add` or `drop` of a container that are NET_RAW, or have it among them.
fn capabilities<'d>(container: NodeView<'d>, list: &str) -> impl Iterator<Item = NodeView<'d>> {
    let listed = container.path(&["securityContext", "capabilities", list]);
    let listed = listed.into_iter().flat_map(NodeView::items);
    listed.filter(|one| {
        let name = one.as_str().unwrap_or_default();
        CAPABILITIES.iter().any(|c| name.eq_ignore_ascii_case(c))
    })
}

fn settings(outer: &Text, document: &Document) -> Vec<Setting> {
    let mut found = Vec::new();
    if let Some(root) = document.root() {
        of_conflist(outer, root, &mut found);
    }
    for object in items::all(document) {
        // Of Multus; and flannel's and others' conflists are in a ConfigMap.
        let config = object.path(&["spec", "config"]);
        let data = object
            .get("data")
            .map(NodeView::entries)
            .unwrap_or_default();
        for value in data.into_iter().map(|(_, value)| value).chain(config) {
            let text = value.text(outer);
            let Some(text) = text.filter(|text| text.content.contains(KEY)) else {
                continue;
            };
            for document in &yaml::read(&text.content).documents {
                if let Some(root) = document.root() {
                    of_conflist(&text, root, &mut found);
                }
            }
        }
        let spec = items::pod_of(object).and_then(|pod| pod.get("spec"));
        for container in spec.into_iter().flat_map(items::containers) {
            of_command(outer, container, &mut found);
        }
    }
    found
}

fn of_conflist(outer: &Text, list: NodeView<'_>, found: &mut Vec<Setting>) {
    let plugins = list.get("plugins").into_iter().flat_map(NodeView::items);
    let ours = plugins.filter(|plugin| plugin.get("type").and_then(NodeView::as_str) == Some(TYPE));
    found.extend(ours.filter_map(|plugin| {
        let value = plugin.get(KEY)?;
        Some(Setting {
            mode: value.as_str()?.parse().ok()?,
            at: place(outer, value),
        })
    }));
}

fn of_command(outer: &Text, container: NodeView<'_>, found: &mut Vec<Setting>) {
    let words = ["command", "args"].into_iter();
    let words = words.filter_map(|key| container.get(key));
    let words: Vec<NodeView<'_>> = words.flat_map(NodeView::items).collect();
    for (n, word) in words.iter().enumerate() {
        let text = word.as_str().unwrap_or_default();
        let (at, value) = match text.strip_prefix(OPTION) {
            Some("") => match words.get(n + 1) {
                Some(next) => (*next, next.as_str().unwrap_or_default()),
                None => continue,
            },
            Some(rest) => (*word, rest.strip_prefix('=').unwrap_or_default()),
            None => continue,
        };
        if let Ok(mode) = value.parse() {
            let at = place(outer, at);
            found.push(Setting { mode, at });
        }
    }
}
