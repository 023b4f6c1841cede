"""What a packet costs: the kernel's work on one CPU, real processes on two, and bulk."""

import json
import subprocess
import time

from contenders import PARTS, Builder, List
from world import inside, run

# Short lists, about the length from which on rules are looked up.
BORDER = [(kind, size) for kind in ("allow-list", "mixed") for size in (5, 8, 12)]


def measure(bench, samples):
    bench.say("nodes to send packets through")
    build = Builder(bench)
    lists = {(kind, size): List(bench, kind, size) for kind in bench.kinds for size in bench.sizes}
    typical = lists[bench.typical, bench.most]
    for primary in ("ptp", "bridge"):
        build.none(typical, primary)
        build.floor(typical, primary)
    for one in lists.values():
        build.ours(one)
    for size in {bench.sizes[0], bench.most}:
        build.ours(lists[bench.typical, size], "bridge")
    bench.say("the same lists as linear rules")
    for (kind, size), one in lists.items():
        if kind == bench.kinds[0]:
            for how in ("nft", "iptables", "ipset"):
                build.linear(one, how)
    if bench.typical != bench.kinds[0]:
        build.linear(typical, "nft")
    for one in (List(bench, kind, size) for kind, size in BORDER if kind in bench.kinds):
        build.ours(one)
        build.plain(one)
    for part in PARTS:
        build.without(typical, part)
    build.denied("denied, silent", "deny to any")
    build.denied("denied, logged", "deny to any log")
    bench.say(f"nodes with {bench.pods[-1]} pods")
    build.crowded(typical)

    bench.say(f"packets of {len(build.made)} pods, on one CPU")
    feed(bench, samples, build.made, "packets", str(bench.rounds(120)))
    few = [c for c in build.made if c.name in {"none, ptp", "floor, ptp"} or c.name in
           {f"{how}{one.name}{tail}" for one in lists.values() for how, tail in (("egressway, ", ", ptp"), ("nft, ", ""))
            if len(one.lines) == bench.most}]
    bench.say("real clients and servers, on two CPUs")
    feed(bench, samples, few, "rates", str(bench.rounds(12)), "30" if bench.quick else "200")
    bench.say("bulk")
    for _ in range(1 if bench.quick else 5):
        for contender in few:
            samples.put("bulk", contender.name, bulk(contender))


def feed(bench, samples, contenders, *arguments):
    output = run(bench.probe, *arguments, text="".join(c.line() for c in contenders))
    for line in output.splitlines():
        kind, name, value, instructions = line.split()
        name = name.replace("_", " ")
        samples.put(kind, name, float(value))
        if float(instructions):
            samples.put(f"{kind}, instructions", name, float(instructions))


def bulk(contender):
    """Gbit/s of one TCP connection for a second."""
    address, port = contender.tcp
    server = subprocess.Popen(["ip", "netns", "exec", contender.node.outside, "iperf3", "-s", "-1", "-p", str(port)],
                              stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 10
    while f":{port} " not in inside(contender.node.outside, "ss", "-Hlnt"):
        if time.monotonic() > deadline:
            raise SystemExit("iperf3's server does not listen")
        time.sleep(0.01)
    answer = inside(contender.pod.name, "iperf3", "-c", address, "-p", str(port), "-t", "1", "-J")
    server.wait(timeout=10)
    return json.loads(answer)["end"]["sum_received"]["bits_per_second"] / 1e9
