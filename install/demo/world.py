"""The demo's network: a node, an outside world, and pods, each a network namespace."""

import json
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

PEER = Path(__file__).with_name("peer.py")

DRAWING = """\
 pods, 10.244.1.0/24 and fd44:0:0:1::/64                       outside
 ┌──────────────┐                                ┌──────────────────────────────────┐
 │ shop/web     ├──┐    node 172.30.0.11         │ internet  198.51.100.80          │
 │ shop/batch   ├──┤    ┌───────────────────┐    │           2001:db8:1::80         │
 │ shop/cache   ├──┼────┤ cni0         eth0 ├────┤ metadata  169.254.169.254        │
 │ payments/api ├──┤    │ DNS 10.96.0.10    │    │           fd00:ec2::254          │
 │ kube-system/ ├──┘    └───────────────────┘    │ database  192.168.7.20           │
 │   agent      │            fd30::11            │ other db  192.168.7.30           │
 └──────────────┘                                └──────────────────────────────────┘"""


@dataclass
class Pod:
    namespace: str
    name: str
    rules: str | None = None
    addresses: dict = field(default_factory=dict)

    @property
    def netns(self):
        return f"{self.namespace}-{self.name}"

    @property
    def container(self):
        return f"demo-{self.netns}"

    @property
    def annotations(self):
        return {} if self.rules is None else {"egressway.dev/rules": self.rules}

    def __str__(self):
        return f"{self.namespace}/{self.name}"


def run(*command, **options):
    """A command that must succeed; its stdout."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, **options)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(command)}: {done.stderr or done.stdout}")
    return done.stdout


def inside(netns, *command):
    return ["ip", "netns", "exec", netns, *command]


def netns(name, **sysctls):
    """A network namespace. Without duplicate address detection, which would only cost seconds."""
    run("ip", "netns", "add", name)
    sysctls = {
        "net.ipv6.conf.default.accept_dad": 0,
        "net.ipv6.conf.default.dad_transmits": 0,
    } | sysctls
    run(*inside(name, "sysctl", "-qw", *(f"{key}={value}" for key, value in sysctls.items())))
    ip(name, "link set lo up")


def ip(name, batch):
    run("ip", "-n", name, "-batch", "-", input=batch)


def private_run():
    """A /run of our own, where `ip netns` keeps its names: they go when the demo does, however it ends."""
    run("mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", "/run")


def build():
    """Node and outside, and their servers."""
    netns("outside")
    netns("node", **{"net.ipv4.ip_forward": 1, "net.ipv6.conf.all.forwarding": 1})
    ip("node", """\
link add eth0 type veth peer name eth0 netns outside
addr add 172.30.0.11/24 dev eth0
addr add fd30::11/64 dev eth0
link set eth0 up
addr add 10.96.0.10/32 dev lo""")
    # 203.0.113.0/24 and 2001:db8::/64, the egress addresses, are on the wire between the two.
    ip("outside", """\
addr add 172.30.0.1/24 dev eth0
addr add fd30::1/64 dev eth0
link set eth0 up
route add 203.0.113.0/24 dev eth0
route add 2001:db8::/64 dev eth0
addr add 198.51.100.80/32 dev lo
addr add 2001:db8:1::80/128 dev lo
addr add 169.254.169.254/32 dev lo
addr add fd00:ec2::254/128 dev lo
addr add 192.168.7.20/32 dev lo
addr add 192.168.7.30/32 dev lo""")
    ip("node", """\
route add default via 172.30.0.1
route add default via fd30::1""")
    serve("outside", "serve")
    serve("node", "dns", "10.96.0.10")


def serve(name, *arguments):
    """Starts a server that ends with the demo, and waits until it listens."""
    command = inside(name, sys.executable, str(PEER), *arguments)
    subprocess.Popen(command, stdin=subprocess.DEVNULL)
    last = 8080 if arguments == ("serve",) else 53
    wait_for(lambda: f":{last} " in run(*inside(name, "ss", "-Hlntu")), f"the servers in {name} do not listen")


def wait_for(done, otherwise):
    """Waits until `done()`; ends the demo if that takes too long."""
    deadline = time.monotonic() + 20
    while not done():
        if time.monotonic() > deadline:
            raise SystemExit(otherwise)
        time.sleep(0.05)


def attach(runtime, pod):
    """Makes a pod and attaches it."""
    netns(pod.netns)
    result = runtime.add(pod)
    for address in result["ips"]:
        host = address["address"].split("/")[0]
        pod.addresses[6 if ":" in host else 4] = host


def attempt(pod, tries):
    """Makes all tries of one pod at once."""
    command = inside(pod.netns, sys.executable, str(PEER), "try")
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    process.stdin.write(json.dumps(tries))
    process.stdin.close()
    return process
