"""The policies that are measured, as rules' text, and the same lists in others' terms: linear nft,
iptables, ipset. Seeded: every run measures the same lists."""

import ipaddress
import random
import re

KINDS = {
    "allow-list": "disjoint networks, any protocol",
    "mixed": "like an EgressFirewall: nested networks, exceptions, ports, denies, logs",
    "overlaps": "adversarial: random networks of all sizes and port ranges on top of each other",
}


def network(random_, shortest, longest):
    length = random_.randint(shortest, longest)
    # Outside of what the bench's own addresses are in.
    base = ipaddress.IPv4Address((random_.randint(11, 99) << 24) | random_.getrandbits(24))
    return ipaddress.ip_network(f"{base}/{length}", strict=False)


def allow_list(count):
    """Neighbours are never adjacent, so that no two can be merged."""
    return [f"allow to {ipaddress.IPv4Address((20 << 24) + n * 512)}/{24 + n % 9}" for n in range(count)]


def mixed(count):
    """Applications of ten rules each, in a /16 of their own."""
    random_, rules = random.Random(8), []
    ports = ["443/tcp", "80/tcp,443/tcp", "5432/tcp", "8000-8100/tcp", "53/udp", "9000-9010/udp"]
    for n in range((count + 9) // 10):
        wide = f"{20 + n // 200}.{n % 200}"
        third = lambda: random_.randint(0, 249)  # noqa: E731
        rules += [
            f"deny 25/tcp to {wide}.0.0/16 log",
            f"allow {random_.choice(ports)} to {wide}.{third()}.0/24",
            f"allow to {wide}.250.{random_.randint(0, 255)}",
            f"deny to {wide}.251.0/24",
            f"allow {random_.choice(ports)} to {wide}.0.0/17 except {wide}.{random_.randint(0, 127)}.0/24",
            f"allow {random_.choice(ports)} to {wide}.{third()}.128/25",
            f"reject {random_.choice(ports)} to {wide}.252.0/22 log",
            f"allow tcp to {wide}.{third()}.{random_.randint(0, 255)}",
            f"deny {random_.choice(ports)} to {wide}.128.0/18",
            f"allow 1024-65535/tcp,1024-65535/udp to {wide}.253.0/24",
        ]
    return rules[:count]


def overlaps(count):
    random_, rules = random.Random(9), []
    for _ in range(count):
        low = random_.randint(1, 60000)
        high = min(low + random_.choice([0, 0, 10, 1000, 5000]), 65535)
        port = str(low) if low == high else f"{low}-{high}"
        what = random_.choice([f"{port}/tcp ", f"{port}/udp ", f"{port}/tcp,{port}/udp ", "tcp ", ""])
        verb = random_.choice(["allow", "allow", "deny"])
        rules.append(f"{verb} {what}to {network(random_, 10, 32)}")
    return rules


def make(kind, count):
    """The list's lines. The last rule allows what is measured, so that linear lists are searched to
    their end."""
    maker = {"allow-list": allow_list, "mixed": mixed, "overlaps": overlaps}[kind]
    last = {"allow-list": "allow to 19.0.0.0/30", "mixed": "allow 8000-8100/tcp,8000-8100/udp to 19.0.0.0/24",
            "overlaps": "allow 8000-8100/tcp,8000-8100/udp to 19.0.0.0/24"}[kind]
    return maker(count - 1) + [last]


def policy_file(path, lines, namespaces=""):
    """A policy file that denies what the list does not allow."""
    path.write_text(
        "apiVersion: egressway.dev/v1alpha1\nkind: ClusterEgressPolicy\ndefaultAction: deny\n"
        "clusterCIDRs: [10.244.0.0/16]\n" + namespaces
        + "defaults: |\n" + "".join(f"  {line}\n" for line in lines), encoding="utf-8")
    return path


RULE = re.compile(r"(?P<verb>allow|deny|reject)(?: (?P<ports>[-0-9a-z/, ]+?))?(?: to (?P<to>.+?))?"
                  r"(?: except (?P<without>.+?))?(?P<options>(?: (?:log|name|priority|until)\S*)*)", re.I)
PORT = re.compile(r"(?:(\d+(?:-\d+)?)/)?(tcp|udp)")


class NoLinearForm(Exception):
    """A rule that the comparison with linear lists can't express."""


def read(line):
    """A rule's parts: verb, list of (port or None, protocol), networks, exceptions, logged."""
    match = RULE.fullmatch(line.split("#")[0].strip())
    if not match:
        raise NoLinearForm(line)
    def addresses(text):
        try:
            return [ipaddress.ip_network(item.strip()) for item in text.split(",")] if text else []
        except ValueError:
            raise NoLinearForm(line) from None
    ports = []
    for item in (match["ports"] or "").split(","):
        port = PORT.fullmatch(item.strip())
        if item.strip() and not port:
            raise NoLinearForm(line)
        if port:
            ports.append(port.groups())
    return match["verb"].lower(), ports or [(None, None)], addresses(match["to"]), addresses(match["without"]), "log" in match["options"]


def plain_nft(lines):
    """The list as plain nft rules, one after the other, with the same logs."""
    out = []
    for line in lines:
        verb, ports, to, without, logged = read(line)
        verdict = {"allow": "accept", "deny": "drop", "reject": "reject"}[verb]
        unless = "".join(f"ip daddr != {network} " for network in without)
        for target in to or [None]:
            for port, protocol in ports:
                match = f"ip daddr {target} " if target else ""
                match += unless
                match += f"{protocol} dport {port} " if port else f"meta l4proto {protocol} " if protocol else ""
                if logged:
                    out.append(f"{match}limit rate 10/second log prefix \"linear\" group 100")
                out.append(f"{match}counter {verdict}")
    return [*out, "drop"]


def linear_nft(lines, source):
    """The list as plain nft rules behind conntrack."""
    out = ["table inet linear {", " chain pod {", *plain_nft(lines), " }",
           " chain enforce {", "  type filter hook prerouting priority -99;",
           f"  ct direction original ip saddr {source} jump pod", " }", "}"]
    return "\n".join(out) + "\n"


def linear_iptables(lines, source):
    """The list for iptables-restore, in a chain for new packets of the pod."""
    out = ["*filter", ":POD - [0:0]",
           "-A FORWARD -m conntrack --ctdir REPLY -j ACCEPT", f"-A FORWARD -s {source} -j POD"]
    for line in lines:
        verb, ports, to, without, _ = read(line)
        if len(without) > 0:
            raise NoLinearForm(line)
        for target in to or [None]:
            for port, protocol in ports:
                match = f"-d {target} " if target else ""
                match += f"-p {protocol} " if protocol else ""
                match += f"-m {protocol} --dport {port.replace('-', ':')} " if port else ""
                out.append(f"-A POD {match}-j {dict(allow='ACCEPT', deny='DROP', reject='REJECT')[verb]}")
    return "\n".join(out + ["-A POD -j DROP", "COMMIT"]) + "\n"


def ipset(lines, source):
    """An allow-list as one set, for `ipset restore`, and the iptables rules that use it."""
    members = []
    for line in lines:
        verb, ports, to, without, _ = read(line)
        if verb != "allow" or ports != [(None, None)] or without:
            raise NoLinearForm(line)
        members += to
    sets = f"create allowed hash:net hashsize 4096 maxelem {len(members) + 1}\n"
    sets += "".join(f"add allowed {member}\n" for member in members)
    rules = ("*filter\n-A FORWARD -m conntrack --ctdir REPLY -j ACCEPT\n"
             f"-A FORWARD -s {source} -m set --match-set allowed dst -j ACCEPT\n"
             f"-A FORWARD -s {source} -j DROP\nCOMMIT\n")
    return sets, rules
