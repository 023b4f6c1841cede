"""What a logged verdict costs the agent, with its line of JSON written to a pipe; and whether all are accounted for when more
come than it can write."""

import os
import re
import socket
import subprocess
import threading
import time

from world import Node, enter, inside

RULE = 'udp dport 9 counter log prefix "egressway pod:erp deny" group 101 snaplen 128 drop'
LOST = re.compile(rb'"kind":"lost".*?"lost":(\d+)')


class Reader(threading.Thread):
    """Counts the lines on a pipe."""

    def __init__(self, pipe):
        super().__init__(daemon=True)
        self.pipe, self.seen, self.lost = pipe, 0, 0

    def run(self):
        rest = b""
        while chunk := os.read(self.pipe.fileno(), 1 << 20):
            whole, found, rest = (rest + chunk).rpartition(b"\n")
            self.seen += whole.count(b'"kind":"verdict"')
            self.lost += sum(int(count) for count in LOST.findall(whole))
            if not found:
                rest = whole + rest


def cpu(pid):
    """Seconds that a process has had of CPUs."""
    fields = open(f"/proc/{pid}/stat", encoding="ascii").read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def flood(netns, to, seconds, every):
    """Sends for so long, a packet each `every` seconds or as fast as that goes; how many."""
    enter(netns)
    sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sender.connect((to, 9))
    began, sent = time.perf_counter(), 0
    while (now := time.perf_counter()) < began + seconds:
        burst = 1000 if every is None else int((now - began) / every) - sent
        for _ in range(burst):
            sender.send(b"x")
        sent += burst
        if every is not None:
            time.sleep(0.002)
    return sent


def measure(bench, samples):
    bench.say("verdicts")
    node = Node("verdicts", bench.plugins, bench.binary)
    (pod,) = node.attach(1)
    enter(node.name)
    policy = node.state_dir.with_suffix(".yaml")
    policy.write_text("apiVersion: egressway.dev/v1alpha1\nkind: ClusterEgressPolicy\ndefaultAction: allow\n", encoding="utf-8")
    node.ours("ADD", pod, policy, "deny 9/udp log name=erp").must()
    inside(node.name, "nft", f"add table inet bench; add chain inet bench logs {{ type filter hook prerouting priority -120; }}; add rule inet bench logs {RULE}")
    bin_dir, conf_dir = node.state_dir.with_suffix(".bin"), node.state_dir.with_suffix(".d")
    for folder in (bin_dir, conf_dir):
        folder.mkdir()
    for what, every in (("20,000 a second", 1 / 20_000), ("as fast as they can be sent", None)):
        for _ in range(bench.rounds(10)):
            agent = subprocess.Popen([
                bench.binary, "agent", "--state-dir", node.state_dir, "--policy-file", policy, "--cni-bin-dir", bin_dir,
                "--cni-conf-dir", conf_dir, "--service-account-dir", "/nonexistent", "--metrics-address", "127.0.0.1:9471",
            ], stdout=subprocess.PIPE)
            reader = Reader(agent.stdout)
            reader.start()
            # Until it reads: what was sent before is nobody's loss.
            while reader.seen == 0:
                flood(pod.name, "172.30.0.1", 0.01, 0.005)
                enter(node.name)
                time.sleep(0.2)
            time.sleep(1)
            before, seen, lost = cpu(agent.pid), reader.seen, reader.lost
            began = time.perf_counter()
            sent = flood(pod.name, "172.30.0.1", 0.5 if bench.quick else 3, every)
            took = time.perf_counter() - began
            # The number of the next one tells how many are missing before it.
            deadline = time.monotonic() + 20
            while reader.seen - seen + reader.lost - lost < sent and time.monotonic() < deadline:
                time.sleep(0.5)
                sent += flood(pod.name, "172.30.0.1", 0.01, 0.009)
            time.sleep(1)
            seen, lost = reader.seen - seen, reader.lost - lost
            samples.put("verdicts a second and core", what, seen / (cpu(agent.pid) - before))
            samples.put("verdicts sent a second", what, sent / took)
            samples.put("verdicts lost, %", what, 100 * lost / sent)
            samples.put("verdicts unaccounted", what, abs(sent - seen - lost))
            agent.terminate()
            agent.wait()
            enter(node.name)
