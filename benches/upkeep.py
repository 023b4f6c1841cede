"""How long `sync` takes on a node on which nothing is wrong: what the process that stays does again and again."""

from pathlib import Path

import rules
from world import EGRESS_IP, Call, Node, enter


def measure(bench, samples):
    bench.say("upkeep")
    node = Node("upkeep", bench.plugins, bench.binary)
    egress = (f"egressIPs: [{EGRESS_IP}]\nnamespaces:\n  egress:\n    annotations:\n"
              f"      egressway.dev/egress-ip: {EGRESS_IP}\n")
    ten = rules.policy_file(Path("/run/upkeep.yaml"), rules.make("mixed", 10), egress)
    pods = node.attach(20 if bench.quick else 240, primary="bridge")
    pods += node.attach(10, primary="bridge", namespace="egress")
    enter(node.name)
    for pod in pods:
        node.ours("ADD", pod, ten).must()
    words = ["--state-dir", node.state_dir]
    for what, argv in (
        ("sync", [bench.binary, "sync", "--policy-file", ten, *words]),
        ("show", [bench.binary, "show", *words]),
    ):
        call = Call(argv)
        for _ in range(bench.rounds(20)):
            done = call.finish(call.start())
            text = done.stdout.decode()
            if done.code != 0 or (what == "sync" and "nothing to do" not in text):
                raise SystemExit(f"{what}: {done.code}: {text[:2000]}")
            samples.put("upkeep ms", f"{what}, {len(pods)} pods", done.seconds * 1e3)
    check = node.ours("CHECK", pods[0], ten)
    for _ in range(bench.rounds(20)):
        samples.put("upkeep ms", f"CHECK of one of {len(pods)} pods", check.must() * 1e3)
