"""What is to be reached, and whether this run did."""

from dataclasses import dataclass, field

from stats import Spread


@dataclass
class Goal:
    """`limit`: at most so much, or at least if `least`. `cases`: what it is about, each with its value; the
    worst one counts."""

    text: str
    limit: float
    unit: str = ""
    least: bool = False
    cases: list = field(default_factory=list)

    def limit_text(self):
        return f"{'at least' if self.least else 'at most'} {self.limit:.3g}{self.unit}"

    def worst(self):
        pick = min if self.least else max
        return pick(self.cases, key=lambda case: case[1].middle)

    def met(self):
        value = self.worst()[1].middle
        return value >= self.limit if self.least else value <= self.limit

    def missed_by(self):
        value = self.worst()[1].middle
        return self.limit / value - 1 if self.least else value / (self.limit or 1) - 1


def inverse(value):
    return Spread(1 / value.middle, 1 / value.high, 1 / value.low)


def goals(bench, samples):
    """All goals, each with the cases that this run measured."""
    ten, most = "egressway, 10 rules", f"egressway, {bench.most} rules"
    few, many = bench.pods[0], bench.pods[-1]

    def ratio(what, who, to, label=None, to_what=None):
        if samples.has(what, who) and samples.has(to_what or what, to):
            return [(label or who, samples.ratio(what, who, to, to_what))]
        return []

    def starts(to, pods=(few, many)):
        return [case for p in pods for case in ratio(f"add@{p}", ten, to, f"{p} pods")]

    def kinds(what, name):
        return [(kind, samples.of(what, name.format(kind))) for kind in bench.kinds if samples.has(what, name.format(kind))]

    ours = [name for name in samples.names("first") if name.startswith("egressway, ") and name.endswith((", ptp", ", bridge"))]

    def to_floor(what):
        return [case for name in ours for case in ratio(what, name, f"floor, {name.split(', ')[-1]}")]

    counted = "instructions" if samples.names("connection, instructions") else "CPU time"

    def cost(kind):
        return f"{kind}, instructions" if counted == "instructions" else kind

    linear = [case for name in samples.names("first") if name.startswith("nft, ") and name.endswith(f"-{bench.most}")
              for case in ratio(cost("first"), name, f"egressway, {name.removeprefix('nft, ')}, ptp")]
    crowd = ratio(cost("connection"), f"egressway, {many} pods", f"firewall, {many} pods, newest", "against the newest pod's")
    typical = f"egressway, {bench.typical}-{bench.most}, ptp"
    return [
        Goal("ADD with 10 rules : `tuning`", 0.6, cases=starts("tuning")),
        Goal(f"ADD with 10 rules : `firewall`, {many} pods", 1 / 20, cases=starts("firewall", [many])),
        Goal(f"ADD with 10 rules : `portmap`, {many} pods", 1 / 30, cases=starts("portmap", [many])),
        Goal(f"ADD, {many} pods : {few} pods", 1.2, cases=ratio(f"add@{many}", ten, ten, "10 rules", f"add@{few}")),
        Goal(f"ADD with {bench.most} rules that another pod has : with 10 rules", 1.2, cases=[
            case for p in bench.pods for kind in bench.kinds
            for case in ratio(f"add@{p}", f"{most}, shared, {kind}", ten, f"{kind}, {p} pods")]),
        Goal(f"compile {bench.most} rules", 15, " ms", cases=kinds("compile", "{}")),
        Goal(f"first ADD with {bench.most} rules", 200, " ms", cases=kinds(f"add@{few}", f"{most}, first, {{}}")),
        Goal(f"kernel memory of {bench.most} rules", 6, " MiB", cases=kinds("kernel MiB", "{}")),
        Goal("`sync` of a node on which nothing is wrong", 100, " ms", cases=[
            (name, samples.of("upkeep ms", name)) for name in samples.names("upkeep ms") if name.startswith("sync")]),
        Goal("another pod's call beside an ADD with 256 KiB of rules", 100, " ms", cases=[
            (name, samples.of("bystander ms", name)) for name in samples.names("bystander ms") if name != "nobody"]),
        Goal("logged verdicts a second and core, each a line of JSON on a pipe", 150_000, least=True, cases=[
            (name, samples.of("verdicts a second and core", name)) for name in samples.names("verdicts a second and core")
            if name.startswith("as fast")]),
        Goal("logged verdicts that are neither written nor counted as lost", 0, cases=[
            (name, samples.of("verdicts unaccounted", name)) for name in samples.names("verdicts unaccounted")]),
        Goal("DEL : the netlink bytes alone, with the socket's close", 1.3, cases=[
            case for p in (few, many) for case in ratio(f"del@{p}", ten, "netlink alone", f"{p} pods")]),
        Goal("ADDs beside our DELs : beside DELs with a plain close", 0.65, cases=ratio("add beside", "DEL", "plain close")),
        Goal(f"connection, {counted} : floor", 1.045, cases=to_floor(cost("connection"))),
        Goal("connections a second : floor", 0.95, least=True, cases=to_floor("connections-per-second")),
        Goal(f"first packet, {counted} : floor", 1.45, cases=to_floor(cost("first"))),
        Goal(f"established packet, {counted} : floor", 1.12, cases=to_floor(cost("established"))),
        Goal("bulk : floor", 0.95, least=True, cases=to_floor("bulk")),
        Goal(f"connection, {many} pods : CNI `firewall` with ipMasq, {counted}", 1 / 3, cases=crowd),
        Goal(f"first packet, {bench.most} rules as linear nft : egressway", 25, least=True, cases=linear),
        Goal(f"anti-spoofing's part of an established packet, {counted}", 1.07, cases=ratio(
            cost("established"), typical, "egressway, no anti-spoofing")),
        Goal(f"denied and logged with a limit : silently denied, {counted}", 1.05, cases=ratio(
            cost("first"), "denied, logged", "denied, silent")),
    ]
