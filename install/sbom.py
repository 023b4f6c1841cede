#!/usr/bin/python3
"""Prints the software bill of materials of the built program, as CycloneDX 1.5 JSON.

Everything in it comes from Cargo.lock by `cargo metadata`: what is compiled into the program for one
target, its macros included, without what only build scripts and tests need. The same lock file gives
the same bytes.

    install/sbom.py [TARGET] > egressway.cdx.json
"""

import json
import re
import subprocess
import sys

TARGET = sys.argv[1] if len(sys.argv) > 1 else "x86_64-unknown-linux-gnu"


def metadata():
    command = ["cargo", "metadata", "--locked", "--format-version", "1", "--filter-platform", TARGET]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


def checksums():
    """SHA-256 of each crate's archive, by name and version."""
    found = {}
    with open("Cargo.lock", encoding="utf-8") as lock:
        for package in lock.read().split("[[package]]")[1:]:
            fields = dict(re.findall(r'^(name|version|checksum) = "(.*)"$', package, re.M))
            found[fields["name"], fields["version"]] = fields.get("checksum")
    return found


def linked(data):
    """The packages that become part of the program: normal dependencies of normal dependencies."""
    nodes = {node["id"]: node for node in data["resolve"]["nodes"]}
    todo, seen = [data["resolve"]["root"]], set()
    while todo:
        package = todo.pop()
        if package in seen:
            continue
        seen.add(package)
        for dependency in nodes[package]["deps"]:
            if any(kind["kind"] is None for kind in dependency["dep_kinds"]):
                todo.append(dependency["pkg"])
    return nodes, seen


def component(package, sums):
    name, version = package["name"], package["version"]
    entry = {
        "type": "library",
        "bom-ref": f"pkg:cargo/{name}@{version}",
        "name": name,
        "version": version,
        "purl": f"pkg:cargo/{name}@{version}",
    }
    if package.get("license"):
        entry["licenses"] = [{"expression": package["license"].replace("/", " OR ")}]
    if sums.get((name, version)):
        entry["hashes"] = [{"alg": "SHA-256", "content": sums[name, version]}]
    return entry


def main():
    data, sums = metadata(), checksums()
    nodes, members = linked(data)
    packages = {package["id"]: package for package in data["packages"]}
    entries = {member: component(packages[member], sums) for member in members}
    root = data["resolve"]["root"]
    entries[root]["type"] = "application"
    ordered = sorted(members, key=lambda member: entries[member]["bom-ref"])
    bill = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {"component": entries[root]},
        "components": [entries[member] for member in ordered if member != root],
        "dependencies": [
            {
                "ref": entries[member]["bom-ref"],
                "dependsOn": sorted(
                    entries[dep["pkg"]]["bom-ref"] for dep in nodes[member]["deps"] if dep["pkg"] in members
                ),
            }
            for member in ordered
        ],
    }
    # The workspace's own crates come from no registry: nobody has a checksum of them.
    own = {packages[member]["name"] for member in members if packages[member]["source"] is None}
    without = [
        c["name"]
        for c in bill["components"]
        if "licenses" not in c or ("hashes" not in c and c["name"] not in own)
    ]
    if without:
        sys.exit(f"no licence or no checksum: {', '.join(without)}")
    json.dump(bill, sys.stdout, indent=1)
    print()


main()
