"""Runs the demo. Started by install/demo.sh in namespaces of its own: main.py PLUGIN CNI-PLUGINS"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from threading import Thread

import world
from runtime import Refused, Runtime
from world import Pod

CONF = Path(__file__).parents[2] / "conf"

WEB = Pod("shop", "web", """\
allow 443/tcp to internet log name=web
reject 80/tcp to internet log name=use-tls
allow 5432/tcp to private log name=database
allow 6379/tcp to cluster log name=cache
deny to cluster log name=no-pods
""")
BATCH = Pod("shop", "batch")
CACHE = Pod("shop", "cache")
API = Pod("payments", "api")
AGENT = Pod("kube-system", "agent", "deny")
TYPO = Pod("shop", "typo", "allow 53/udp to dns\nallow 443/tpc to internet\n")

ADDRESSES = {
    "internet": {4: "198.51.100.80", 6: "2001:db8:1::80"},
    "metadata": {4: "169.254.169.254", 6: "fd00:ec2::254"},
    "database": {4: "192.168.7.20"},
    "other db": {4: "192.168.7.30"},
    "DNS": {4: "10.96.0.10"},
    "shop/cache": CACHE.addresses,
}
# As which the outside sees pods.
NODE = {4: "172.30.0.11", 6: "fd30::11"}
EGRESS_IP = {4: "203.0.113.10", 6: "2001:db8::10"}
OWN = "its own"

# Pod, destination, port, families, what is expected, by which rule, and the source seen there.
# Rules in brackets log nothing; all others must be found in the log.
EXPECTED = [
    (WEB, "internet", "443/tcp", "46", "allow", "pod:web", NODE),
    (WEB, "internet", "80/tcp", "46", "reject", "pod:use-tls", None),
    (WEB, "internet", "25/tcp", "46", "reject", "cluster-enforced:no-mail", None),
    (WEB, "metadata", "80/tcp", "46", "deny", "cluster-enforced:no-metadata", None),
    (WEB, "database", "5432/tcp", "4", "allow", "pod:database", NODE),
    (WEB, "other db", "5432/tcp", "4", "deny", "namespace-enforced:one-db", None),
    (WEB, "shop/cache", "6379/tcp", "46", "allow", "pod:cache", OWN),
    (WEB, "shop/cache", "8080/tcp", "46", "deny", "pod:no-pods", None),
    (WEB, "DNS", "53/udp", "4", "allow", "(built-in: clusterDNS)", OWN),
    (BATCH, "internet", "443/tcp", "46", "deny", "cluster-defaults:no-internet", None),
    (BATCH, "shop/cache", "8080/tcp", "4", "allow", "(defaultAction)", OWN),
    (API, "internet", "443/tcp", "46", "allow", "namespace-defaults:https", EGRESS_IP),
    (API, "internet", "80/tcp", "4", "deny", "cluster-defaults:no-internet", None),
    (API, "database", "5432/tcp", "4", "allow", "(defaultAction)", EGRESS_IP),
    (AGENT, "metadata", "80/tcp", "4", "allow", "(exempt namespace)", NODE),
]


@dataclass
class Row:
    pod: Pod
    destination: str
    port: str
    address: str
    expected: str
    rule: str
    source: str

    @property
    def family(self):
        return 6 if ":" in self.address else 4

    @property
    def target(self):
        number, protocol = self.port.split("/")
        return [protocol, self.address, int(number)]


def rows():
    """EXPECTED, one row for each family. The pods' own addresses must be known by now."""
    for pod, destination, port, families, expected, rule, source in EXPECTED:
        for family in map(int, families):
            seen_as = pod.addresses if source is OWN else source or {}
            address = ADDRESSES[destination][family]
            yield Row(pod, destination, port, address, expected, rule, seen_as.get(family, ""))


class Log:
    """`egressway logs` on the node, from now on."""

    def __init__(self, plugin, state, *options):
        command = world.inside("node", plugin, "logs", "--state-dir", state, *options)
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.lines = []
        self.reader = Thread(target=self._read)
        self.reader.start()
        groups = world.inside("node", "cat", "/proc/net/netfilter/nfnetlink_log")
        world.wait_for(lambda: world.run(*groups).strip(), "`egressway logs` does not listen")

    def _read(self):
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))

    def until(self, enough):
        """The lines, once there are `enough`, or no more come."""
        deadline = time.monotonic() + 3
        while not enough(self.lines) and time.monotonic() < deadline:
            time.sleep(0.05)
        self.process.terminate()
        self.reader.join()
        self.process.wait()
        return self.lines


def attempts(table):
    """What came of each row, all made at once."""
    processes = []
    for pod in {str(row.pod): row.pod for row in table}.values():
        own = [row for row in table if row.pod is pod]
        processes.append((own, world.attempt(pod, [row.target for row in own])))
    answers = {}
    for own, process in processes:
        outcomes = json.loads(process.stdout.read())
        answers |= {id(row): outcome for row, outcome in zip(own, outcomes)}
    return [answers[id(row)] for row in table]


def deciding_rule(log, row):
    """The rule that the log names for this row's packets; empty if there is no line."""
    for line in map(json.loads, log):
        if [line["source"], line["destination"]] == [row.pod.addresses[row.family], row.address]:
            if line.get("destinationPort") == row.target[2]:
                return line["rule"]
    return ""


class Style:
    """Colours, on a terminal only."""

    def __init__(self):
        self.on = sys.stdout.isatty() and "NO_COLOR" not in os.environ

    def __call__(self, code, text):
        return f"\033[{code}m{text}\033[0m" if self.on else text


style = Style()
COLUMNS = "{:<17} {:<22} {:<8} {:<6} {:<28} {:<13}"


def show(table, plugin, state):
    """Makes every row's try and prints the table. How many rows are not as expected."""
    log = Log(plugin, state, "-o", "json")
    outcomes = attempts(table)
    logged = [row for row in table if not row.rule.startswith("(")]
    log = log.until(lambda lines: all(deciding_rule(lines, row) for row in logged))
    print(style("1", COLUMNS.format("pod", "destination", "expected", "seen", "deciding rule", "seen outside as")))
    wrong = 0
    for row, outcome in zip(table, outcomes):
        rule = deciding_rule(log, row)
        if rule == "" and row.rule.startswith("("):
            rule = row.rule
        found = (outcome["seen"], rule, outcome["source"])
        fine = found == (row.expected, row.rule, row.source)
        wrong += not fine
        destination = f"{row.destination} {row.port}{' v6' if row.family == 6 else ''}"
        line = COLUMNS.format(str(row.pod), destination, row.expected, outcome["seen"], rule, outcome["source"])
        colour = {"allow": "32", "deny": "31", "reject": "33"}[outcome["seen"]]
        print(style(colour, line.rstrip()))
        if not fine:
            print(style("1;31", f"  WRONG: expected {row.expected} by {row.rule} as {row.source or 'nobody'}"))
    return wrong


def show_refusal(runtime):
    """A pod with a mistake in its annotation must not start. How many things are not as expected."""
    print(style("1", "\nA pod with a mistake in its rules does not start, and its owner is told why:"))
    try:
        world.attach(runtime, TYPO)
    except Refused as refused:
        print(f"{TYPO}: {refused.plugin} refused it, code {refused.code}:")
        print("\n".join(f"  {line}" for line in refused.msg.splitlines()))
        return int(refused.code != 100 or "^^^^^^^" not in refused.msg)
    print(style("1;31", f"  WRONG: {TYPO} was started"))
    return 1


def show_log(table, plugin, state):
    """The denied tries once more, as an operator sees them."""
    print(style("1", "\n`egressway logs` on the node, while the denied tries are made again (times left out):"))
    denied = [row for row in table if row.expected != "allow"]

    def missing(lines):
        return [row for row in denied if not any(row.rule in line and row.address in line for line in lines)]

    log = Log(plugin, state)
    attempts(denied)
    # A denied client tries more than once: lines that differ only in their times are one here.
    seen = dict.fromkeys(line.partition(" ")[2] for line in log.until(lambda lines: not missing(lines)))
    for line in seen:
        print(f"  {line}")
    for row in missing(seen):
        print(style("1;31", f"  WRONG: no line for {row.pod} to {row.address} by {row.rule}"))
    return int(bool(missing(seen)))


def show_end(runtime, pods):
    """Removes all pods. Whether something is left of them."""
    for pod in pods:
        runtime.delete(pod)
    rules = world.run(*world.inside("node", "nft", "list", "ruleset"))
    addresses = world.run(*world.inside("node", "ip", "address"))
    left = [word for word in ("pod-", "if-", "nd-", "pol-") if f"chain {word}" in rules]
    left += [address for address in EGRESS_IP.values() if address in addresses]
    if left:
        print(style("1;31", f"\nWRONG: something is left after the last pod: {', '.join(left)}"))
    else:
        print("\nAfter the last pod, neither its rules nor the egress IP are left on the node.")
    return int(bool(left))


def main(plugin, cni_plugins):
    started = time.monotonic()
    world.private_run()
    directory = Path(tempfile.mkdtemp(prefix="egressway-demo-", dir="/run"))
    shutil.copy(CONF / "policy-full.yaml", directory / "policy.yaml")
    runtime = Runtime(
        CONF / "containerd-bridge.conflist",
        "node",
        [str(Path(plugin).parent), cni_plugins],
        {
            "bridge": {"ipam": {"dataDir": str(directory / "ipam")}},
            "egressway": {
                "policyFile": str(directory / "policy.yaml"),
                "stateDir": str(directory / "state"),
                "logFile": str(directory / "egressway.log"),
            },
        },
    )
    print(world.DRAWING)
    print("policy: conf/policy-full.yaml   network: conf/containerd-bridge.conflist")
    print(style("2", "\n".join(["the rules of shop/web:"] + [f"  {rule}" for rule in WEB.rules.splitlines()])))
    print()
    world.build()
    pods = [WEB, BATCH, CACHE, API, AGENT]
    for pod in pods:
        world.attach(runtime, pod)
    world.serve(CACHE.netns, "serve")
    table = list(rows())
    state = str(directory / "state")
    wrong = show(table, plugin, state) + show_refusal(runtime) + show_log(table, plugin, state)
    wrong += show_end(runtime, pods)
    count = len(table) + 3
    seconds = time.monotonic() - started
    print(f"\n{count - wrong} of {count} as expected, in {seconds:.0f} s")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
