"""RESULTS.md: what a run found, in ratios, and how it was measured."""

import json
import os
import platform
import re
import subprocess
import time
from pathlib import Path

import plot
from contenders import PARTS
from goals import goals
from packets import BORDER
from starts import KEPT_POLICIES


def write(bench, samples, folder, raw):
    folder.mkdir(parents=True, exist_ok=True)
    drawn = plot.draw(bench, samples)
    if drawn:
        (folder / "results.svg").write_text(drawn, encoding="utf-8")
    text = "\n".join([*head(bench, bool(drawn)), *reached(bench, samples), *start_tables(bench, samples), *packet_tables(bench, samples),
                      *memory_tables(bench, samples), *method(bench, samples)])
    (folder / "RESULTS.md").write_text(text + "\n", encoding="utf-8")
    if raw:
        raw.write_text(json.dumps(samples.values), encoding="utf-8")
    print(f"{folder / 'RESULTS.md'} is written")


def head(bench, drawn):
    cpu = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text(encoding="utf-8"))
    version = subprocess.run(["iptables", "--version"], capture_output=True, text=True, check=False).stdout.strip()
    lines = ["# What it costs", "",
             f"Written by `benches/run.sh` on {time.strftime('%Y-%m-%d')}, {(time.monotonic() - bench.began) / 60:.0f} minutes of measuring: "
             f"Linux {platform.release()}, {os.cpu_count()} CPUs ({cpu[1] if cpu else platform.machine()}), {version}. "
             "Everything is measured side by side in one run; what counts are the ratios. A value is the median, in "
             "brackets the quarters of all rounds around it.", ""]
    if bench.quick:
        lines += ["**A quick run: too short, with too few rules and pods to say anything about costs.**", ""]
    if bench.own:
        lines += [f"The policy is one of the user's own, with {bench.most} rules.", ""]
    return lines + (["![ADD beside the reference plugins; packets by the number of rules](results.svg)", ""] if drawn else [])


def reached(bench, samples):
    """The table of goals. What this run did not measure is left out."""
    rows = [goal for goal in goals(bench, samples) if goal.cases]
    if not rows:
        return []
    lines = ["## Goals", "", "The worst of all cases counts.", "",
             "| what | goal | measured | case | |", "|---|---|---|---|---|"]
    for goal in rows:
        case, value = goal.worst()
        verdict = "met" if goal.met() else f"**missed by {goal.missed_by():.0%}**"
        lines.append(f"| {goal.text} | {goal.limit_text()} | {value:.3g}{goal.unit} | {case} | {verdict} |")
    return lines + [""]


def table(title, header, rows):
    return [f"### {title}", "", f"| | {' | '.join(header)} |", "|---" * (len(header) + 1) + "|",
            *(f"| {' | '.join(row)} |" for row in rows), ""]


def start_tables(bench, samples):
    lines = []
    for verb in ("add", "del"):
        names = {name: None for p in bench.pods for name in samples.names(f"{verb}@{p}")}
        if not names:
            continue
        first = [f"{verb}@{p}" for p in bench.pods]
        ordered = sorted(names, key=lambda name: min(samples.of(w, name).middle for w in first if samples.has(w, name)))
        rows = [[name, *(f"{samples.of(w, name):.2f}" if samples.has(w, name) else "" for w in first),
                 f"{samples.ratio(first[-1], name, 'tuning'):.2f}" if samples.has(first[-1], name) else ""]
                for name in ordered]
        lines += table(f"{verb.upper()}, whole process, milliseconds", [*(f"{p} pods" for p in bench.pods),
                       f": `tuning`, {bench.pods[-1]} pods"], rows)
    if samples.names("add beside"):
        rows = [[name, f"{samples.of('add beside', name):.1f}"] for name in samples.names("add beside")]
        lines += table("ADD beside DELs of other pods by", ["ADD, milliseconds"], rows)
    if samples.names("churn ADD"):
        rows = [[name, *(f"{samples.of(f'churn {verb}', name):.0f}" for verb in ("ADD", "DEL"))]
                for name in samples.names("churn ADD")]
        count = 20 if bench.quick else 100
        lines += table(f"{count} at once, until the last is done, milliseconds", ["ADD", "DEL"], rows)
    if samples.names("upkeep ms"):
        rows = [[name, f"{samples.of('upkeep ms', name):.0f}"] for name in samples.names("upkeep ms")]
        lines += table("A node on which nothing is wrong, whole process", ["milliseconds"], rows)
    if samples.names("verdicts a second and core"):
        whats = ("verdicts sent a second", "verdicts a second and core", "verdicts lost, %", "verdicts unaccounted")
        rows = [[name, *(f"{samples.of(what, name):.0f}" for what in whats)] for name in samples.names("verdicts a second and core")]
        lines += table("Logged verdicts, each a line of JSON on a pipe: the agent",
                       ["sent a second", "written for a second of CPU", "counted as lost, %", "neither"], rows)
    if samples.names("bystander ms"):
        whats = ("bystander ms", "bystander's neighbour ms", "bystander of DEL ms")
        rows = [[name, *(f"{samples.of(what, name):.0f}" if samples.has(what, name) else "" for what in whats)]
                for name in samples.names("bystander ms")]
        lines += table("The slowest call of another pod while one pod comes or goes with 256 KiB of rules, milliseconds",
                       ["beside its ADD", "that ADD itself", "beside its DEL"], rows)
    return ["## Pod starts and stops", "", *lines] if lines else []


KINDS = {"first": "first packet", "established": "established", "connection": "connection", "round-trip": "round trip"}


def packet_tables(bench, samples):
    names = samples.names("first")
    if not names:
        return []
    def floor_of(name):
        return "floor, bridge" if name.endswith("bridge") else "floor, ptp"
    lines = ["## Packets", "",
             "To the floor, which is connection tracking and an egress IP without any rules; `none` is neither. "
             "In brackets the quarters.", ""]
    columns = [(kind, title) for kind, title in KINDS.items() if samples.names(kind)]
    for suffix, what in ((", instructions", "instructions"), ("", "CPU time")):
        if not samples.names(f"first{suffix}"):
            continue
        rows = [[name, *(f"{samples.ratio(kind + suffix, name, floor_of(name)):.2f}" if samples.has(kind + suffix, name) and "denied" not in name else ""
                         for kind, _ in columns)] for name in names if "denied" not in name and ", no " not in name and "plain rules" not in name]
        lines += table(f"One CPU, {what}", [title for _, title in columns], rows)
        whole = f"egressway, {bench.typical}-{bench.most}, ptp"
        rows = [[name, *(f"{samples.ratio(kind + suffix, f'egressway, {name}, ptp', f'as plain rules, {name}'):.2f}" for kind, _ in columns)]
                for name in (f"{kind}-{size}" for kind, size in BORDER) if samples.has("first", f"as plain rules, {name}")]
        lines += table(f"Short lists: looked up, to the same as plain rules; {what}", [title for _, title in columns], rows) if rows else []
        rows = [[part, *(f"{samples.ratio(kind + suffix, whole, f'egressway, no {part}'):.2f}" for kind, _ in columns)]
                for part in PARTS if samples.has("first", f"egressway, no {part}")]
        lines += table(f"Parts of ours: all of it, to all but this; {what}", [title for _, title in columns], rows)
    rows = [[f"{kind}, nanoseconds", *(f"{samples.of(kind, name):.0f}" for name in ("none, ptp", "floor, ptp"))] for kind, _ in columns]
    lines += table("What the ratios are about", ["none", "floor"], rows)
    if samples.names("connections-per-second"):
        rows = [[name, f"{samples.of('connections-per-second', name).middle:.0f}",
                 *(f"{samples.ratio(kind, name, 'floor, ptp'):.2f}" for kind in ("connections-per-second", "real-round-trip", "bulk"))]
                for name in samples.names("connections-per-second")]
        lines += table("Real processes on two CPUs", ["connections a second", "connections a second : floor", "round trip : floor", "bulk (iperf3) : floor"], rows)
    return lines


def memory_tables(bench, samples):
    lines = []
    if samples.names("kernel MiB"):
        rows = [[f"{bench.most} rules, {kind}", f"{samples.of('kernel MiB', kind):.2f}", f"{samples.of('disk KiB', f'a pod, {kind}'):.0f}",
                 f"{samples.of('read', kind):.1f}", f"{samples.of('compile', kind):.1f}"] for kind in samples.names("kernel MiB")]
        lines += table("A policy", ["kernel, MiB", "state on the tmpfs, KiB", "read and check, ms", "compile, ms"], rows)
        rows = [[name, f"{samples.of('kernel KiB', name).middle:.1f}"] for name in samples.names("kernel KiB")]
        lines += table("A pod", ["kernel, KiB"], rows)
        lines += [f"On the tmpfs a pod with ten rules takes {samples.of('disk KiB', 'a pod, with ten rules').middle:.1f} KiB.", ""]
    return ["## Memory and compiler", "", *lines] if lines else []


def method(bench, samples):
    clock = ("instructions that the sending thread executed, as the CPU counts them, beside the time"
             if samples.names("first, instructions") else
             "time, since this machine's CPU does not count instructions for us (a virtual one, mostly)")
    return f"""\
## How it was measured

- ADD and DEL: whole processes, from before `posix_spawn` to behind `wait`, in rounds in which each contender comes once, in
  random order. `/bin/true` shows what of it is the bench. `netlink alone` is a small static program that sends the very bytes
  that our ADD or DEL of ten rules sends, as strace saw them. `first` is the first pod with a policy, `shared` one with a policy
  that another pod has, `last` the DEL that removes it. `after others' changes`: another program has changed something in
  nf_tables since our last transaction, and what pods share is compared before it is relied on.
- The pods of a node with many are real veths in namespaces of their own, attached by the `ptp` plugin; each has ten rules of
  {KEPT_POLICIES} policies of ours, and the rules of `firewall` and `portmap`, which one real call made and the bench multiplied.
- `tuning` is called without anything to do. `bandwidth` limits ingress only.
- Packets: one thread sends from the pod's namespace and receives outside; the kernel carries a packet all the way in the
  sender's system call, so that one CPU does all the work. Measured is {clock}. First packet: UDP, each of a new flow.
  Established: UDP of a known flow. Connection: TCP, opened and closed. All contenders are measured in each round.
- What is measured is allowed by the list's last rule that can be asked for, the worst place of a linear list. Before that, verdicts
  for places out of the list are compared with `egressway explain`; a wrong one ends the run.
- Lists: allow-list: disjoint networks, any protocol. mixed: like an EgressFirewall, with nested networks, exceptions, ports, denies and logs.
  overlaps: random networks and ports on top of each other.
- Memory: what a first ADD adds to the kernel's slabs, vmalloc and per-CPU areas. The compiler: the library, without the kernel.""".splitlines()
