"""Pod starts and stops: whole processes, beside the reference plugins and the bare netlink bytes."""

import hashlib
import random
import re
import struct
import threading
import time
from pathlib import Path

import rules
from world import Call, Node, enter, inside, run

HOST_PORT = 31999
REFERENCE = {
    "tuning": {},
    "bandwidth": {"ingressRate": 1_000_000_000, "ingressBurst": 100_000_000},
    "firewall": {"backend": "iptables"},
    "portmap": {
        "snat": True,
        "runtimeConfig": {"portMappings": [{"hostPort": HOST_PORT, "containerPort": 80, "protocol": "tcp"}]},
    },
}
KEPT_POLICIES = 50


def fill(node, pods, plugins=("firewall", "portmap")):
    """Gives all pods our plugin, with 50 policies of ten rules in all, and these reference plugins."""
    empty = rules.policy_file(Path(f"/run/{node.name}-fill.yaml"), [])
    enter(node.name)
    for n, pod in enumerate(pods):
        own = [f"allow 443/tcp to 19.{n % KEPT_POLICIES}.{rule}.0/24" for rule in range(10)]
        node.ours("ADD", pod, empty, "\n".join(own)).must()
    if pods and plugins:
        multiply(node, plugins, pods)


def multiply(node, plugins, pods):
    """Calls `plugins` for the first pod, and gives the others the rules that this made, as their own: five
    hundred real calls of them would take minutes."""
    sample = pods[0]
    enter(node.name)
    for plugin in plugins:
        node.call("ADD", plugin, sample, REFERENCE[plugin]).must()
    saved = inside(node.name, "iptables-save").splitlines()
    own_chains = sorted({
        chain for line in saved if sample.address in line for chain in re.findall(r"CNI-[A-Z-]*[0-9a-f]{20,}", line)
    })
    restore, table = [], None
    for line in saved:
        if line.startswith("*") or line == "COMMIT":
            table = line
            restore.append(line)
        elif re.search(rf"{re.escape(sample.address)}\b", line) or any(chain in line for chain in own_chains):
            for n, pod in enumerate(pods[1:]):
                mine = re.sub(rf"{re.escape(sample.address)}\b", pod.address, line)
                for chain in own_chains:
                    digest = hashlib.sha512(f"{chain} {pod.name}".encode()).hexdigest()
                    name = re.sub(r"[0-9a-f]{20,}", lambda old: digest[: len(old[0])], chain)
                    mine = mine.replace(chain, name)
                restore.append(mine.replace(str(HOST_PORT), str(20000 + n)))
    # A declaration of each chain first: rules may lead to one that comes later.
    inside(node.name, "iptables-restore", "-n", text="\n".join(restore) + "\n")


def record(node, pod, verb, policy, path):
    """The nf_tables batches that a call sends, as strace saw them, for `probe replay`."""
    call = node.ours(verb, pod, policy)
    trace = f"{path}.trace"
    call.argv = ["/usr/bin/strace", "-f", "-o", trace, "-e", "trace=sendto,sendmsg", "-e", "write=all", *call.argv]
    call.must()
    messages, current = [], None
    for line in Path(trace).read_text(encoding="utf-8", errors="replace").splitlines():
        dump = re.match(r"(?:\d+ +)? \| [0-9a-f]{5}  ([0-9a-f ]{48,50}) ", line)
        if dump:
            if current is None:
                current = bytearray()
                messages.append(current)
            current += bytes.fromhex(dump[1])
        else:
            current = None
    # NFNL_MSG_BATCH_BEGIN: include/uapi/linux/netfilter/nfnetlink.h
    batches = [bytes(m) for m in messages if m[4:6] == struct.pack("H", 0x10)]
    if not batches:
        raise SystemExit(f"{verb} sent no nf_tables batch, or strace shows it otherwise: {trace}")
    batches = [at_any_generation(batch) for batch in batches]
    Path(path).write_bytes(b"".join(struct.pack("I", len(b)) + b for b in batches))


def at_any_generation(batch):
    """The batch without what its first message may say: for which generation of the tables it was made."""
    bare = 20  # struct nlmsghdr, struct nfgenmsg
    return struct.pack("I", bare) + batch[4:bare] + batch[struct.unpack_from("I", batch)[0]:]


class Starts:
    """One node with so many pods, and everything that is started on it in each round."""

    def __init__(self, bench, pods):
        self.bench, self.pods = bench, pods
        self.node = Node(f"starts{pods}", bench.plugins, bench.binary)
        *filler, self.subject, self.keeper = self.node.attach(pods + 2)
        fill(self.node, filler)
        folder = Path(f"/run/{self.node.name}")
        folder.mkdir()
        self.ten = rules.policy_file(folder / "10.yaml", rules.make("mixed", 10))
        self.many = {
            kind: rules.policy_file(folder / f"many-{kind}.yaml", bench.list_of(kind, bench.most))
            for kind in (bench.kinds if pods == 0 else [bench.typical])
        }
        enter(self.node.name)
        self.node.ours("ADD", self.subject, self.ten).must()  # what only a node's first ADD does
        self.node.ours("DEL", self.subject, self.ten).must()
        record(self.node, self.subject, "ADD", self.ten, folder / "add")
        record(self.node, self.subject, "DEL", self.ten, folder / "del")
        self.replay = {verb: [bench.probe, "replay", folder / verb.lower()] for verb in ("ADD", "DEL")}

    def round(self, samples, round_):
        """Each contender's ADD and DEL once, in an order of its own. The slow ones only in some rounds."""
        enter(self.node.name)
        steps = [self.nothing, self.bare, self.ours]
        steps += [lambda plugin=plugin: self.reference(plugin) for plugin in REFERENCE]
        if round_ % 4 == 0:
            steps += [lambda kind=kind: self.shared(kind) for kind in self.many]
        random.shuffle(steps)
        for step in steps:
            for what, who, seconds in step():
                samples.put(f"{what.lower()}@{self.pods}", who, seconds * 1000, round_)

    def nothing(self):
        for verb in ("ADD", "DEL"):
            yield verb, "/bin/true", Call(["/bin/true"]).must()

    def bare(self):
        for verb in ("ADD", "DEL"):
            yield verb, "netlink alone", Call(self.replay[verb]).must()

    def reference(self, plugin):
        for verb in ("ADD", "DEL"):
            yield verb, plugin, self.node.call(verb, plugin, self.subject, REFERENCE[plugin]).must()
        if plugin == "bandwidth":  # which leaves its queue to the end of the veth
            run("tc", "qdisc", "del", "dev", self.subject.veth, "root")

    def ours(self):
        """After another program has changed anything in nf_tables, ADD compares all that pods share; after a
        transaction of ours it knows."""
        for change in ("add", "delete"):
            run("nft", change, "table", "ip", "bench-of-others")
        for who in ("egressway, 10 rules, after others' changes", "egressway, 10 rules"):
            for verb in ("ADD", "DEL"):
                yield verb, who, self.node.ours(verb, self.subject, self.ten).must()

    def shared(self, kind):
        """The first pod with 8000 rules, the next one, and both go again."""
        policy, many = self.many[kind], f"egressway, {self.bench.most} rules"
        yield "ADD", f"{many}, first, {kind}", self.node.ours("ADD", self.keeper, policy).must()
        for verb in ("ADD", "DEL"):
            yield verb, f"{many}, shared, {kind}", self.node.ours(verb, self.subject, policy).must()
        yield "DEL", f"{many}, last, {kind}", self.node.ours("DEL", self.keeper, policy).must()


def adds_and_dels(bench, samples):
    nodes = []
    for pods in bench.pods:
        bench.say(f"a node with {pods} pods")
        nodes.append(Starts(bench, pods))
    bench.say("ADD and DEL")
    for n in range(bench.rounds(40)):
        for node in nodes:
            node.round(samples, n)
    beside_dels(bench, nodes[0], samples)


def beside_dels(bench, starts, samples):
    """ADDs of four pods while others are deleted: by our DEL, and by a process that sends the same bytes and
    closes its socket."""
    bench.say("ADDs beside DELs")
    node, policy = starts.node, starts.ten
    pods = node.attach(4)
    enter(node.name)
    node.ours("ADD", starts.keeper, policy).must()
    plain = {}
    for pod in pods:
        node.ours("ADD", pod, policy).must()
        path = f"/run/{pod.name}.del"
        record(node, pod, "DEL", policy, path)
        plain[pod.name] = path
    for _ in range(bench.rounds(8)):
        for who in ("DEL", "plain close"):
            took, stop = [], time.monotonic() + (1.0 if bench.quick else 2.0)

            def work(pod):
                while time.monotonic() < stop:
                    took.append(node.ours("ADD", pod, policy).must())
                    if who == "DEL":
                        node.ours("DEL", pod, policy).must()
                    else:
                        Call([bench.probe, "replay", plain[pod.name]]).must()
                node.ours("DEL", pod, policy).must()

            threads = [threading.Thread(target=work, args=(pod,)) for pod in pods]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            took.sort()
            samples.put("add beside", who, took[len(took) // 2] * 1000)
    node.ours("DEL", starts.keeper, policy).must()


def churn(bench, samples):
    """A hundred ADDs at once, then as many DELs: until the last one is done."""
    count = 20 if bench.quick else 100
    bench.say(f"{count} ADDs at once")
    node = Node("churn", bench.plugins, bench.binary)
    pods = node.attach(count)
    policy = rules.policy_file(Path("/run/churn.yaml"), rules.make("mixed", 10))
    enter(node.name)
    calls = {"egressway": lambda verb, pod: node.ours(verb, pod, policy)}
    for plugin in ("tuning", "firewall"):
        calls[plugin] = lambda verb, pod, plugin=plugin: node.call(verb, plugin, pod, REFERENCE[plugin])
    for _ in range(bench.rounds(5)):
        for who, make in calls.items():
            for verb in ("ADD", "DEL"):
                waiting = [make(verb, pod) for pod in pods]
                began = time.perf_counter()
                started = [(call, call.start()) for call in waiting]
                for call, process in started:
                    done = call.finish(process)
                    if done.code != 0:
                        raise SystemExit(f"{who} {verb}: {done.stdout.decode()[:2000]}")
                samples.put(f"churn {verb}", who, (time.perf_counter() - began) * 1000)
