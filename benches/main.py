"""Runs the parts that are asked for, and writes what they found. Called by run.sh, inside of its
namespaces."""

import argparse
import time
from pathlib import Path

import bystanders
import memory
import packets
import report
import rules
import starts
import upkeep
import verdicts
import world
from stats import Samples

PARTS = {
    "adds": starts.adds_and_dels,
    "packets": packets.measure,
    "memory": memory.measure,
    "upkeep": upkeep.measure,
    "verdicts": verdicts.measure,
    "bystanders": bystanders.measure,
    "churn": starts.churn,
}


class Bench:
    """What all parts need: the programs, how much is measured, and which policies."""

    def __init__(self, arguments):
        self.binary, self.plugins = arguments.binary, arguments.plugins
        self.probe, self.compile = arguments.probe, arguments.compile
        self.quick = arguments.quick
        self.pods = [0, 12] if self.quick else [0, 110, 500]
        self.own = None
        self.kinds, self.sizes, self.typical = list(rules.KINDS), [10, 100, 1000, 8000], "mixed"
        if self.quick:
            self.sizes = [10, 400]
        if arguments.policy:
            lines = [line.split("#")[0].strip() for line in arguments.policy.read_text(encoding="utf-8").splitlines()]
            self.own = [line for line in lines if line]
            self.kinds, self.sizes, self.typical = ["own"], [len(self.own)], "own"
        self.most = self.sizes[-1]
        self.began = time.monotonic()

    def rounds(self, full):
        return max(full // 10, 2) if self.quick else full

    def list_of(self, kind, count):
        return self.own if kind == "own" else rules.make(kind, count)

    def say(self, what):
        print(f"==> {time.monotonic() - self.began:4.0f} s: {what}", flush=True)


def main():
    parser = argparse.ArgumentParser(prog="benches/run.sh", description="What egressway costs, measured side by side.")
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"only these: {' '.join(PARTS)} (default: all)")
    parser.add_argument("--policy", type=Path, metavar="FILE",
                        help="rules, one a line, in place of the generated lists")
    parser.add_argument("--quick", action="store_true", help="small and short: shows that it works, not what it costs")
    parser.add_argument("--out", type=Path, metavar="DIR", help="where RESULTS.md and its plots go (default: benches/)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="every single sample, too")
    for name in ("binary", "plugins", "probe", "compile"):
        parser.add_argument(f"--{name}", required=True, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    unknown = set(arguments.parts) - PARTS.keys()
    if unknown:
        parser.error(f"no part {', '.join(sorted(unknown))}: {' '.join(PARTS)}")
    bench, samples = Bench(arguments), Samples()
    world.private_run()
    for part in arguments.parts or PARTS:
        PARTS[part](bench, samples)
    bench.say("done")
    report.write(bench, samples, arguments.out or Path(__file__).parent, arguments.json)


if __name__ == "__main__":
    main()
