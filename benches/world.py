"""What is measured in: network namespaces, a node and its pods, and plugins called as runtimes call
them. Everything is inside the namespaces that run.sh made, and goes with them."""

import ctypes
import json
import os
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

NETNS = Path("/run/netns")
CLONE_NEWNET = 0x40000000
NETWORK = "bench"
UPLINK = "172.30.0.11"
OUTSIDE = "172.30.0.1"
EGRESS_IP = "172.30.0.50"
libc = ctypes.CDLL(None, use_errno=True)


def run(*command, text=None, check=True):
    """A command that must succeed; its stdout."""
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    if check and done.returncode != 0:
        raise SystemExit(f"{' '.join(command)[:200]}: {done.stderr or done.stdout}")
    return done.stdout


def private_run():
    """A /run of our own on a tmpfs, where `ip netns` keeps names and plugins keep state."""
    run("mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", "/run")
    NETNS.mkdir()


def enter(netns):
    """Moves this thread, and what it starts from now on, into a network namespace."""
    fd = os.open(NETNS / netns, os.O_RDONLY)
    try:
        if libc.setns(fd, CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), f"setns {netns}")
    finally:
        os.close(fd)


def inside(netns, *command, text=None, check=True):
    return run("ip", "netns", "exec", netns, *command, text=text, check=check)


def ip(netns, batch):
    run("ip", "-n", netns, "-batch", "-", text=batch)


def make_netns(*names):
    run("ip", "-batch", "-", text="".join(f"netns add {name}\n" for name in names))
    for name in names:
        ip(name, "link set lo up")


def sysctl(netns, **values):
    inside(netns, "sysctl", "-qw", *(f"{key.replace('__', '.')}={value}" for key, value in values.items()))


@dataclass
class Done:
    """One call of a program, to its end."""

    seconds: float
    code: int
    stdout: bytes


class Call:
    """A program with its environment and stdin, started with as little around it as can be:
    posix_spawn, files for stdin and stdout, and the clock from before the one to behind wait."""

    def __init__(self, argv, env=None, stdin=b""):
        self.argv, self.env = [str(arg) for arg in argv], env or {}
        self.stdin = os.memfd_create("stdin")
        os.write(self.stdin, stdin)

    def start(self):
        stdout = os.memfd_create("stdout")
        os.lseek(self.stdin, 0, os.SEEK_SET)
        actions = [
            (os.POSIX_SPAWN_DUP2, self.stdin, 0),
            (os.POSIX_SPAWN_DUP2, stdout, 1),
            (os.POSIX_SPAWN_DUP2, stdout, 2),
        ]
        began = time.perf_counter()
        return began, os.posix_spawn(self.argv[0], self.argv, self.env, file_actions=actions), stdout

    def finish(self, started):
        began, pid, stdout = started
        _, status = os.waitpid(pid, 0)
        seconds = time.perf_counter() - began
        code = os.waitstatus_to_exitcode(status)
        size = os.fstat(stdout).st_size
        output = os.pread(stdout, size, 0)
        os.close(stdout)
        return Done(seconds, code, output)

    def must(self):
        """Runs it; ends the bench if it fails. Seconds."""
        done = self.finish(self.start())
        if done.code != 0:
            raise SystemExit(f"{' '.join(self.argv)}: {done.code}: {done.stdout.decode()[:2000]}")
        return done.seconds

    def close(self):
        os.close(self.stdin)


@dataclass
class Pod:
    """A pod that a primary plugin has attached; `result` is that plugin's answer."""

    name: str
    namespace: str
    address: str
    result: dict

    @property
    def veth(self):
        """Its device on the node."""
        inner = {i["name"] for i in self.result["interfaces"] if i.get("sandbox")}
        return next(i["name"] for i in self.result["interfaces"] if i["name"] not in inner | {"cni0"})


class Node:
    """A node's namespace with an uplink to an outside, which has every address there is."""

    def __init__(self, name, plugins, binary):
        self.name, self.outside = name, f"{name}-out"
        self.plugins, self.binary = plugins, binary
        self.state_dir = Path(f"/run/state-{name}")
        self.pods = []
        make_netns(self.name, self.outside)
        sysctl(self.name, net__ipv4__ip_forward=1)
        ip(self.name, f"""\
link add eth0 type veth peer name eth0 netns {self.outside}
addr add {UPLINK}/24 dev eth0
link set eth0 up""")
        ip(self.outside, f"""\
addr add {OUTSIDE}/24 dev eth0
link set eth0 up
route add local 0.0.0.0/1 dev lo
route add local 128.0.0.0/1 dev lo
route add 10.244.0.0/16 via {UPLINK}""")
        ip(self.name, f"route add default via {OUTSIDE}")

    def call(self, verb, plugin, pod, conf, prev=True):
        """A plugin's call for a pod, in the node's namespace."""
        conf = {"cniVersion": "1.0.0", "name": NETWORK, "type": plugin} | conf
        if prev and pod.result:
            conf["prevResult"] = pod.result
        binary = self.binary if plugin == "egressway" else f"{self.plugins}/{plugin}"
        env = {
            "CNI_COMMAND": verb,
            "CNI_CONTAINERID": f"{self.name}-{pod.name}",
            "CNI_NETNS": f"/run/netns/{pod.name}",
            "CNI_IFNAME": "eth0",
            "CNI_ARGS": f"IgnoreUnknown=1;K8S_POD_NAMESPACE={pod.namespace};K8S_POD_NAME={pod.name}",
            "CNI_PATH": str(self.plugins),
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
        }
        return Call([binary], env, json.dumps(conf).encode())

    def ours(self, verb, pod, policy, rules=None):
        """A call of egressway with a policy file and, if given, the pod's own rules."""
        annotations = {} if rules is None else {"egressway.dev/rules": rules}
        return self.call(verb, "egressway", pod, {
            "policyFile": str(policy),
            "stateDir": str(self.state_dir),
            "runtimeConfig": {"io.kubernetes.cri.pod-annotations": annotations},
        })

    def attach(self, count, primary="ptp", namespace="bench", masquerade=False):
        """New pods, attached by the real primary plugin."""
        first = len(self.pods)
        names = [f"{self.name}-p{first + n}" for n in range(count)]
        make_netns(*names)
        new = []
        enter(self.name)
        for n, name in enumerate(names):
            # Not .0, .1 (the bridge's) and .255 of any /24.
            address = f"10.244.{(first + n) // 250}.{(first + n) % 250 + 2}"
            pod = Pod(name, namespace, address, {})
            ipam = {
                "type": "static",
                "addresses": [{"address": f"{address}/16", "gateway": "10.244.255.254"}],
                "routes": [{"dst": "0.0.0.0/0"}],
            }
            conf = {"ipam": ipam, "ipMasq": masquerade}
            if primary == "bridge":
                conf |= {"bridge": "cni0", "isGateway": True}
            call = self.call("ADD", primary, pod, conf)
            done = call.finish(call.start())
            call.close()
            if done.code != 0:
                raise SystemExit(f"{primary}: {done.stdout.decode()}")
            pod.result = json.loads(done.stdout)
            new.append(pod)
        self.pods += new
        return new
