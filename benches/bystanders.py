"""How long the calls of other pods take while one pod comes whose annotation asks for all that the limits allow."""

import threading
import time
from pathlib import Path

import rules
import shapes
from world import Node, enter


def measure(bench, samples):
    bench.say("bystanders")
    node = Node("bystanders", bench.plugins, bench.binary)
    big, keeper, *others = node.attach(2 + 20)
    ten = rules.policy_file(Path("/run/bystanders.yaml"), rules.make("mixed", 10), "clusterDNS: [10.96.0.10]\n")
    enter(node.name)
    node.ours("ADD", keeper, ten).must()
    names = list(shapes.SHAPES)[:2] if bench.quick else list(shapes.SHAPES)
    for round_ in range(bench.rounds(5)):
        samples.put("bystander ms", "nobody", beside(node, others, ten, lambda: time.sleep(0.5)), round_)
        for name in names:
            text = "\n".join(shapes.SHAPES[name]())
            add, delete = (node.ours(verb, big, ten, text) for verb in ("ADD", "DEL"))
            done = []
            longest = beside(node, others, ten, lambda: done.append(add.finish(add.start())))
            if done[0].code != 0:
                raise SystemExit(f"{name}: {done[0].stdout.decode()[:1000]}")
            samples.put("bystander ms", name, longest, round_)
            samples.put("bystander's neighbour ms", name, done[0].seconds * 1e3, round_)
            samples.put("bystander of DEL ms", name, beside(node, others, ten, delete.must), round_)
            for call in (add, delete):
                call.close()


def beside(node, pods, policy, work):
    """Starts and stops pods one after the other until `work` is done; how long the slowest call took, in ms."""
    took, stop = [], threading.Event()

    def loop():
        enter(node.name)
        while not stop.is_set():
            for verb in ("ADD", "DEL"):
                for pod in pods:
                    call = node.ours(verb, pod, policy)
                    took.append(call.must())
                    call.close()

    thread = threading.Thread(target=loop)
    thread.start()
    time.sleep(0.05)
    work()
    stop.set()
    thread.join()
    return max(took) * 1e3
