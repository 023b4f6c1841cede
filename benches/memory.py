"""What the kernel holds for a pod and for a policy, what is on disk, and how long the compiler works."""

import time
from pathlib import Path

import rules
from world import Node, enter, run

MIB = 1 << 20


def kernel_bytes():
    """Memory that the kernel holds and can't give back: slabs, vmalloc and per-CPU areas. The least of some
    readings, since what others are just using comes and goes."""
    readings = []
    for _ in range(10):
        meminfo = dict(line.split(":") for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines())
        readings.append(sum(int(meminfo[key].split()[0]) for key in ("SUnreclaim", "VmallocUsed", "Percpu")) * 1024)
        time.sleep(0.01)
    return min(readings)


def measure(bench, samples):
    bench.say("memory")
    node = Node("memory", bench.plugins, bench.binary)
    rounds = bench.rounds(5)
    many = 20 if bench.quick else 100
    crowd = node.attach(many)
    big = node.attach(rounds * len(bench.kinds))
    enter(node.name)
    ten = rules.policy_file(Path("/run/memory.yaml"), rules.make("mixed", 10))
    for pod in crowd[:2]:  # the tables themselves, and the first users of each kind of slab
        node.ours("ADD", pod, ten).must()
    for half, what in ((crowd[2:many // 2], "a pod, with a policy of others"), (crowd[many // 2:], "a pod, with ten rules of its own")):
        before = kernel_bytes()
        for n, pod in enumerate(half):
            own = None
            if what.endswith("own"):
                own = "\n".join(f"allow 443/tcp to 19.{n}.{rule}.0/24" for rule in range(10))
            node.ours("ADD", pod, ten, own).must()
        samples.put("kernel KiB", what, (kernel_bytes() - before) / len(half) / 1024)

    samples.put("disk KiB", "a pod, with ten rules", disk(node) / many / 1024)
    for kind in bench.kinds:
        for n in range(rounds):
            lines = [f"allow to 18.0.{n}.1", *bench.list_of(kind, bench.most)]  # nobody else's policy
            policy = rules.policy_file(Path(f"/run/memory-{kind}-{n}.yaml"), lines)
            pod, size = big.pop(), disk(node)
            before = kernel_bytes()
            node.ours("ADD", pod, policy).must()
            samples.put("kernel MiB", kind, (kernel_bytes() - before) / MIB)
            samples.put("disk KiB", f"a pod, {kind}", (disk(node) - size) / 1024)
        policy = rules.policy_file(Path(f"/run/compile-{kind}.yaml"), bench.list_of(kind, bench.most))
        for line in run(bench.compile, str(policy), str(bench.rounds(50))).splitlines():
            step, nanoseconds = line.split()
            samples.put(step, kind, int(nanoseconds) / 1e6)


def disk(node):
    return sum(f.stat().st_blocks * 512 for f in node.state_dir.rglob("*") if f.is_file())
