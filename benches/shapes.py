"""The worst that one pod's annotation can ask of a node: shapes that fill the 256 KiB that Kubernetes takes, as far
as the policy file's `limits` let them."""

# Kubernetes counts all keys and values of an object.
MOST = 256 * 1024 - 1024


def fill(line, most=10_000):
    """`line(n)` for as many n as there is room for."""
    return fit(line(n) for n in range(most))


def fit(lines):
    kept, used = [], 0
    for line in lines:
        used += len(line) + 1
        if used > MOST:
            break
        kept.append(line)
    return kept


def words(word, size):
    """`word(n)`, joined by commas, for as many n as there is room for."""
    found, used = [], 0
    while True:
        one = word(len(found))
        used += len(one) + 1
        if used > size:
            return ",".join(found)
        found.append(one)


def apart(n):
    """Every other address, so that none can be joined with the next."""
    return f"11.{2 * n >> 16 & 255}.{2 * n >> 8 & 255}.{2 * n & 255}"


def plain(count):
    """Rules that every packet is compared with, each with as many ports and addresses as there is room for."""
    size = (MOST // count - 60) // 2
    return [
        f"{'deny' if n % 2 else 'allow'} {words(lambda k: f'{1 + 2 * (k + n)}/tcp', size)} "
        f"to {words(lambda k: apart(n * 3000 + k), size)} until=2099-01-01T00:00:00Z" for n in range(count)]


def pairs(ports, addresses):
    """Rules with so many ports and addresses each, whose pairs are looked up together."""
    count = 12_000 // (ports * addresses)
    return fit(
        f"deny {','.join(f'{1 + 2 * (k + n)}/tcp' for k in range(ports))} "
        f"to {','.join(apart(n * addresses + k) for k in range(addresses))}" for n in range(count))


def holes(count, end=""):
    """Everything but very many addresses, for each of so many ports. A hole more makes a pair more."""
    most = 12_000 // count - 3  # what lies behind the last one, IPv6
    return fit(
        f"deny {n + 1}/tcp to any except {','.join(apart(n * 7 + k) for k in range(most))}{end}" for n in range(count))


def between():
    """What can't be looked up cuts what lies between into lists of their own."""
    per = 38
    return fit(line for n in range(256) for line in (
        f"deny {n + 1}/tcp to node", *(f"deny {n + 1}/udp to {apart(n * per + k)} log" for k in range(per))))


def nested():
    """Each network in the one before."""
    return fill(lambda n: f"{'deny' if n % 2 else 'allow'} {n % 3 + 1}/tcp to 11.0.0.0-11.{255 - (n >> 8)}.{255 - (n & 255)}.1")


def ranges():
    """Ranges that are no networks, with a port each: the kernel keeps one as many networks."""
    return fill(lambda n: f"deny {n + 1}/tcp to 11.0.{n >> 8 & 255}.{2 * n & 255 | 1}-12.255.255.{254 - 2 * (n & 31)}")


def excepted():
    """Rules that except words: what comes behind them stands in the kernel once for each combination of them."""
    heads = [f"deny {n + 1}/tcp to any except {word}" for n, word in enumerate(("dns", "metadata"))]
    return heads + fill(lambda n: f"deny {n + 1}/tcp to {apart(n)} log", 7_900)


SHAPES = {
    "10,000 addresses": lambda: fill(lambda n: f"deny to {apart(n)}"),
    "10,000 addresses that log": lambda: fill(lambda n: f"deny to {apart(n)} log"),
    "an address, its port and a log line each": lambda: fill(lambda n: f"deny {n + 1}/tcp to {apart(n)} log"),
    "256 plain rules": lambda: plain(256),
    "two rules of a thousand ports and addresses": lambda: plain(2),
    "12,000 pairs of 8 ports and 8 addresses": lambda: pairs(8, 8),
    "12,000 pairs of 32 ports and 32 addresses": lambda: pairs(32, 32),
    "holes in 100 ports": lambda: holes(100),
    "holes in 100 ports that log": lambda: holes(100, " log"),
    "ranges that are no networks": ranges,
    "plain rules between others": between,
    "nested": nested,
    "excepted words": excepted,
}
