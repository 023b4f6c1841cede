"""Who is compared by packets: each a node with a pod of its own, and the rules under test loaded."""

import random
import re
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import rules
import starts
from world import EGRESS_IP, Node, enter, inside, ip, sysctl

NAMESPACES = f"""\
egressIPs: [{EGRESS_IP}]
namespaces:
  bench:
    annotations: {{egressway.dev/egress-ip: {EGRESS_IP}}}
"""

# What every node pays that has connection tracking and egress IPs, whatever the rules: the floor.
FLOOR = """\
table inet floor {
 map snat4 { type ipv4_addr : ipv4_addr; elements = { SOURCE : EGRESS } }
 set cluster4 { type ipv4_addr; flags interval; elements = { 10.244.0.0/16, 172.30.0.11, 224.0.0.0/3 } }
 chain post {
  type nat hook postrouting priority 50;
  ip daddr != @cluster4 snat ip to ip saddr map @snat4
 }
}
"""

# What each packet of the node goes by beside the rules.
PARTS = {
    "anti-spoofing": "table netdev egressway",
    "leak-stop": "chain inet egressway leak-stop",
}


@dataclass
class Contender:
    """`udp` and `tcp`: where to. Without `tcp` it is about packets that are denied."""

    name: str
    node: Node
    pod: object
    udp: tuple
    tcp: tuple | None

    def line(self):
        """For the probe."""
        tcp = self.tcp or ("-", 0)
        return (f"{self.name.replace(' ', '_')} {self.pod.name} {self.node.outside} {self.pod.address} "
                f"{self.udp[0]} {self.udp[1]} {tcp[0]} {tcp[1]}\n")


def explained(bench, policy, destination, protocol):
    """Whether a packet goes, as `egressway explain` says from the policy file."""
    address, port = destination
    argv = [bench.binary, "explain", "--policy", str(policy), f"{address}:{port}/{protocol}"]
    code = subprocess.run(argv, capture_output=True, check=False).returncode
    if code not in (0, 1):
        raise SystemExit(f"{' '.join(argv)}: exit status {code}")
    return code == 0


def destinations(lines, random_):
    """Places that the rules are about, the last rule's first, each with a protocol."""
    for line in reversed(lines):
        try:
            _, ports, to, _, _ = rules.read(line)
        except rules.NoLinearForm:
            continue
        for network in to:
            if network.version == 4:
                port, protocol = random_.choice(ports)
                port = int(port.split("-")[0]) if port else random_.choice([80, 443, 8000])
                address = network[min(1, network.num_addresses - 1)]
                yield (str(address), port), protocol


class List:
    """One list of rules with its policy file, and what is sent to measure it."""

    def __init__(self, bench, kind, count):
        self.bench, self.kind, self.lines = bench, kind, bench.list_of(kind, count)
        self.name = f"{kind}-{len(self.lines)}"
        self.policy = rules.policy_file(Path(f"/run/{self.name}.yaml"), self.lines, NAMESPACES)
        self.samples, found = [], {}
        random_ = random.Random(1)
        for where, protocol in destinations(self.lines, random_):
            for one in ("udp", "tcp"):
                if protocol in (None, one) and one not in found and explained(bench, self.policy, where, one):
                    found[one] = where
            if len(found) == 2:
                break
        if len(found) < 2:
            raise SystemExit(f"{self.name}: no rule allows an IPv4 address and port by UDP and by TCP")
        self.udp, self.tcp = found["udp"], found["tcp"]
        for where, protocol in random_.sample(every := list(destinations(self.lines, random_)), min(24, len(every))):
            protocol = protocol or random_.choice(["udp", "tcp"])
            self.samples.append((where, protocol, explained(bench, self.policy, where, protocol)))

    def check(self, contender):
        """Whether the verdicts are what `explain` says: a wrong one makes any speed worthless."""
        arrived = delivered(contender, [(where, protocol) for where, protocol, _ in self.samples])
        wrong = [sample for sample in self.samples if ((sample[0], sample[1]) in arrived) != sample[2]]
        if wrong:
            raise SystemExit(f"{contender.name}: wrong verdicts (destination, protocol, should go): {wrong}")


def delivered(contender, probes):
    """Sends a first packet each, and says which came out of the node."""
    senders = []
    enter(contender.node.outside)
    wire = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(0x0800))
    enter(contender.pod.name)
    for where, protocol in [*probes, (contender.udp, "udp")]:
        sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM if protocol == "udp" else socket.SOCK_STREAM)
        sender.setblocking(False)
        senders.append(sender)
        try:
            sender.connect(where)
            sender.send(b"x")
        except OSError:
            pass  # a rejected one, or a TCP connection that is being opened
    seen, deadline = set(), time.monotonic() + 10
    last = (contender.udp, "udp")
    while last not in seen or time.monotonic() < deadline and wire_ready(wire):
        wire.settimeout(max(deadline - time.monotonic(), 0.001))
        try:
            packet, (_, _, kind, *_) = wire.recvfrom(2048)
        except TimeoutError:
            raise SystemExit(f"{contender.name}: {last} should be allowed, and did not arrive") from None
        if kind == socket.PACKET_OUTGOING or packet[9] not in (6, 17):
            continue
        head = (packet[0] & 15) * 4
        where = socket.inet_ntoa(packet[16:20]), int.from_bytes(packet[head + 2:head + 4], "big")
        seen.add((where, {6: "tcp", 17: "udp"}[packet[9]]))
    for sender in senders:
        sender.close()
    wire.close()
    return seen


def wire_ready(wire):
    """Whether more has arrived already: one CPU carries a packet to the end before the next is sent."""
    wire.setblocking(False)
    try:
        wire.recv(1, socket.MSG_PEEK)
        return True
    except BlockingIOError:
        return False


class Builder:
    """Makes nodes with one pod. Names are numbered, since interfaces' names are short."""

    def __init__(self, bench):
        self.bench, self.made = bench, []

    def pod(self, primary="ptp", pods=1, masquerade=False):
        node = Node(f"k{len(self.made)}", self.bench.plugins, self.bench.binary)
        new = node.attach(pods, primary, masquerade=masquerade)
        # Entries of flows that were measured must be gone when their ports come again.
        sysctl(node.name, net__netfilter__nf_conntrack_udp_timeout=2,
               net__netfilter__nf_conntrack_tcp_timeout_time_wait=2)
        self.tune(new[-1])
        return node, new[-1]

    @staticmethod
    def tune(pod):
        # A closed connection's port is free at once: there are more connections than ports.
        sysctl(pod.name, net__ipv4__tcp_max_tw_buckets=0)

    def add(self, name, node, pod, udp, tcp):
        self.made.append(Contender(name, node, pod, udp, tcp))
        return self.made[-1]

    def none(self, like, primary="ptp"):
        return self.add(f"none, {primary}", *self.pod(primary), like.udp, like.tcp)

    def load_floor(self, node, pod):
        ip(node.name, f"addr add {EGRESS_IP}/32 dev eth0")
        inside(node.name, "nft", "-f", "-", text=FLOOR.replace("SOURCE", pod.address).replace("EGRESS", EGRESS_IP))

    def floor(self, like, primary="ptp"):
        node, pod = self.pod(primary)
        self.load_floor(node, pod)
        return self.add(f"floor, {primary}", node, pod, like.udp, like.tcp)

    def ours(self, like, primary="ptp", name=None):
        node, pod = self.pod(primary)
        enter(node.name)
        node.ours("ADD", pod, like.policy).must()
        made = self.add(name or f"egressway, {like.name}, {primary}", node, pod, like.udp, like.tcp)
        like.check(made)
        return made

    def plain(self, like):
        """Ours, with plain rules in the place of lookups."""
        made = self.ours(like, name=f"as plain rules, {like.name}")
        chain = re.search(r"goto (pol-\w+)", inside(made.node.name, "nft", "list", "table", "inet", "egressway"))
        chain = f"inet egressway {chain[1]}"
        text = f"flush chain {chain}\n" + "".join(f"add rule {chain} {rule}\n" for rule in rules.plain_nft(like.lines))
        inside(made.node.name, "nft", "-f", "-", text=text)
        like.check(made)

    def linear(self, like, how):
        """The same list in one of the other ways, or a word about why not."""
        try:
            if how == "nft":
                loads = [(["nft", "-f", "-"], lambda pod: rules.linear_nft(like.lines, pod.address))]
            elif how == "iptables":
                loads = [(["iptables-restore", "-n"], lambda pod: rules.linear_iptables(like.lines, pod.address))]
            else:
                sets, _ = rules.ipset(like.lines, "0.0.0.0")
                loads = [(["ipset", "restore"], lambda pod: sets),
                         (["iptables-restore", "-n"], lambda pod: rules.ipset(like.lines, pod.address)[1])]
            texts = [(command, text) for command, text in loads if text(type("P", (), {"address": "0.0.0.0"}))]
        except rules.NoLinearForm as line:
            self.bench.say(f"{how} can't say {like.name}, for example: {line}")
            return None
        node, pod = self.pod()
        self.load_floor(node, pod)
        for command, text in texts:
            inside(node.name, *command, text=text(pod))
        made = self.add(f"{how}, {like.name}", node, pod, like.udp, like.tcp)
        like.check(made)
        return made

    def without(self, like, part):
        """Ours, less one of its parts."""
        made = self.ours(like, name=f"egressway, no {part}")
        inside(made.node.name, "nft", f"delete {PARTS[part]}")

    def denied(self, name, verb):
        """A pod whose packets are all denied."""
        node, pod = self.pod()
        policy = rules.policy_file(Path(f"/run/denied-{len(self.made)}.yaml"), [verb])
        enter(node.name)
        node.ours("ADD", pod, policy).must()
        self.add(name, node, pod, ("19.0.0.1", 8000), None)

    def crowded(self, like):
        """Nodes with 500 pods: ours, and the reference plugins' firewall and masquerading."""
        pods = self.bench.pods[-1]
        node, pod = self.pod(pods=pods)
        enter(node.name)
        starts.fill(node, node.pods[:-1], plugins=[])
        node.ours("ADD", pod, like.policy).must()
        like.check(self.add(f"egressway, {pods} pods", node, pod, like.udp, like.tcp))
        node, _ = self.pod(masquerade=True)
        node.attach(pods - 1)
        starts.multiply(node, ["firewall"], node.pods)
        for n, which in enumerate(("middle", "newest")):
            pod = node.pods[(len(node.pods) - 1) // (2 - n)]
            self.tune(pod)
            elsewhere = [(str(like.udp[0]), 7000 + n), (str(like.tcp[0]), 7000 + n)]
            self.add(f"firewall, {pods} pods, {which}", node, pod, *elsewhere)
