"""The plot of RESULTS.md: one SVG, readable on light and on dark ground, without any script."""

import math
from html import escape

WIDTH, LEFT, RIGHT = 920, 250, 60
ROW = 24
STYLE = """
  text { font: 13px system-ui, sans-serif; fill: #1f2328; }
  .title { font-weight: 600; font-size: 15px; }
  .quiet { fill: #59636e; font-size: 12px; }
  .ground { fill: #ffffff; }
  .grid { stroke: #d1d9e0; }
  .ours { --c: #0969da; } .other { --c: #818b98; } .linear { --c: #bc4c00; } .ipset { --c: #8250df; }
  .mixed { --c: #1a7f37; } .overlaps { --c: #0a7e8c; }
  line.range { stroke: var(--c); stroke-width: 4; opacity: 0.5; } path.line { stroke: var(--c); fill: none; stroke-width: 2.2; }
  circle { fill: var(--c); } text.label { fill: var(--c); }
  @media (prefers-color-scheme: dark) {
    text { fill: #f0f6fc; } .quiet { fill: #9198a1; } .ground { fill: #0d1117; } .grid { stroke: #3d444d; }
    .ours { --c: #58a6ff; } .other { --c: #9198a1; } .linear { --c: #f0883e; } .ipset { --c: #be8fff; }
    .mixed { --c: #56d364; } .overlaps { --c: #56d4dd; }
  }"""


class Scale:
    """Logarithmic, from `low` to `high` onto pixels."""

    def __init__(self, low, high, begin, end):
        self.low, self.high, self.begin, self.end = low, high, begin, end

    def __call__(self, value):
        part = math.log(value / self.low) / math.log(self.high / self.low)
        return self.begin + part * (self.end - self.begin)

    def ticks(self):
        exponents = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        every = [factor * 10.0 ** e for e in exponents for factor in (1, 2, 5)]
        every = [tick for tick in every if self.low <= tick <= self.high]
        return every if len(every) <= 8 else [tick for tick in every if f"{tick:.0e}"[0] == "1"]


def text(x, y, words, kind="", anchor="start"):
    return f'<text x="{x:.0f}" y="{y:.0f}" class="{kind}" text-anchor="{anchor}">{escape(words)}</text>'


def dots(title, subtitle, rows, top):
    """A dot each, with its quarters as a line. `rows`: name, class, Spread."""
    bottom = top + 58 + len(rows) * ROW
    scale = Scale(min(s.low for *_, s in rows) / 1.3, max(s.high for *_, s in rows) * 1.1, LEFT, WIDTH - RIGHT)
    out = [text(16, top + 18, title, "title"), text(16, top + 36, subtitle, "quiet")]
    for tick in scale.ticks():
        x = scale(tick)
        out += [f'<line class="grid" x1="{x:.0f}" x2="{x:.0f}" y1="{top + 48}" y2="{bottom}"/>',
                text(x, bottom + 16, f"{tick:g}", "quiet", "middle")]
    for n, (name, kind, value) in enumerate(rows):
        y = top + 52 + n * ROW
        out += [text(LEFT - 8, y + 14, name, "", "end"),
                f'<line class="grid" x1="{LEFT}" x2="{scale(value.middle):.1f}" y1="{y + 9}" y2="{y + 9}"/>',
                f'<line class="range {kind}" x1="{scale(value.low):.1f}" x2="{scale(value.high):.1f}" y1="{y + 9}" y2="{y + 9}"/>',
                f'<circle class="{kind}" cx="{scale(value.middle):.1f}" cy="{y + 9}" r="6"/>',
                text(scale(max(value.high, value.middle * 1.05)) + 6, y + 14, f"{value.middle:.3g}", "quiet")]
    return out, bottom + 40


def lines(title, subtitle, series, top):
    """Lines over the number of rules. `series`: name, class, {rules: Spread}."""
    height, right = 250, WIDTH - 190
    values = [s.middle for *_, points in series for s in points.values()]
    counts = sorted({count for *_, points in series for count in points})
    across = Scale(counts[0], counts[-1], 70, right)
    upward = Scale(min(*values, 0.9), max(values) * 1.2, top + 52 + height, top + 52)
    out = [text(16, top + 18, title, "title"), text(16, top + 36, subtitle, "quiet")]
    for tick in upward.ticks():
        y = upward(tick)
        out += [f'<line class="grid" x1="70" x2="{right}" y1="{y:.0f}" y2="{y:.0f}"/>',
                text(62, y + 4, f"{tick:g}", "quiet", "end")]
    out += [text(across(count), top + height + 72, f"{count} rules", "quiet", "middle") for count in counts]
    ends, last = sorted((upward(points[max(points)].middle), name, kind) for name, kind, points in series), -math.inf
    for y, name, kind in ends:  # one label below the other, even where lines meet
        last = max(y + 4, last + 16)
        out.append(text(right + 10, last, name, f"label {kind}"))
    for _, kind, points in series:
        places = [(across(count), upward(points[count].middle)) for count in sorted(points)]
        out.append(f'<path class="line {kind}" d="M{" L".join(f"{x:.1f},{y:.1f}" for x, y in places)}"/>')
        out += [f'<circle class="{kind}" cx="{x:.1f}" cy="{y:.1f}" r="3.5"/>' for x, y in places]
    return out, max(top + height + 90, last + 20)


def series_of(bench, samples, what):
    """Ours of each kind, and the same list in the other ways, to the floor."""
    named = [(f"egressway, {kind}", {"mixed": "mixed", "overlaps": "overlaps"}.get(kind, "ours"), f"egressway, {kind}-{{}}, ptp")
             for kind in bench.kinds]
    named += [("linear nft", "linear", f"nft, {bench.kinds[0]}-{{}}"), ("iptables-nft", "other", f"iptables, {bench.kinds[0]}-{{}}"),
              ("ipset, no ports", "ipset", f"ipset, {bench.kinds[0]}-{{}}")]
    for name, kind, template in named:
        points = {size: samples.ratio(what, template.format(size), "floor, ptp")
                  for size in bench.sizes if samples.has(what, template.format(size))}
        if points:
            yield name, kind, points


def draw(bench, samples):
    """The SVG, or None if nothing of it was measured."""
    out, top = [], 10
    pods = bench.pods[-1]
    if samples.names(f"add@{pods}"):
        rows = [(name, "ours" if name.startswith("egressway") else "other", samples.of(f"add@{pods}", name))
                for name in samples.names(f"add@{pods}")]
        rows.sort(key=lambda row: row[2].middle)
        part, top = dots(f"ADD on a node with {pods} pods", "milliseconds, the whole process; less is better; the axis is logarithmic",
                         rows, top)
        out += part
    if len(bench.sizes) > 1:
        for kind, title in (("first", "First packet"), ("connection", "TCP connection, opened and closed")):
            what = f"{kind}, instructions" if samples.names(f"{kind}, instructions") else kind
            if samples.names(kind):
                unit = "instructions" if what != kind else "CPU time"
                part, top = lines(f"{title}, by the number of rules", f"{unit}, to connection tracking and an egress IP without rules (1)",
                                  list(series_of(bench, samples, what)), top + 10)
                out += part
    if not out:
        return None
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {top:.0f}" width="{WIDTH}" height="{top:.0f}" role="img" '
            f'aria-label="Costs of egressway beside others">\n<style>{STYLE}\n</style>\n<rect class="ground" width="100%" height="100%"/>\n'
            + "\n".join(out) + "\n</svg>\n")
