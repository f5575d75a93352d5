"""What a run says, as Markdown.

Enters: the record of a run. Leaves: the same text each time, so that a page can be compared with the run it tells of.
"""

import json
from statistics import median

from peers.keyward import STAGES, TITLES
from rows import BASE, COMPARED, LATENCY_RATE, ROWS

BEGIN = "<!-- scripts/bench.sh --record: begin -->"
END = "<!-- scripts/bench.sh --record: end -->"

# A machine that does something else measures something else.
QUIET = 0.5


def text(run):
    parts = [head(run)]
    if run["rows"]:
        parts += [relative(run), absolute(run), stages(run)]
    for name, part in (("latency", latency), ("memory", memory), ("start", starts), ("workers", workers)):
        if name in run:
            parts.append(part(run))
    parts.append(checked(run))
    return "\n\n".join(part for part in parts if part) + "\n"


def write(page, run):
    before, _, rest = page.read_text().partition(BEGIN)
    _, end, after = rest.partition(END)
    if not end:
        raise SystemExit(f"{page}: the lines {BEGIN!r} and {END!r} are missing")
    page.write_text(f"{before}{BEGIN}\n\n{text(run)}\n{END}{after}")


def check(page, record):
    """What is wrong, or nothing."""
    if not record.exists():
        return f"{record} is missing: run scripts/bench.sh --record"
    _, begin, rest = page.read_text().partition(BEGIN)
    told, end, _ = rest.partition(END)
    if not begin or not end:
        return f"{page}: the lines {BEGIN!r} and {END!r} are missing"
    run = json.loads(record.read_text())
    if told.strip() != text(run).strip():
        return f"{page} is not what {record} says: run scripts/bench.sh --record, and change neither by hand"
    return None


def table(names, rows):
    lines = ["| " + " | ".join(names) + " |", "|" + "---|" * len(names)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def spread(values, form):
    """The median, with the least and the most of all rounds."""
    if len(values) == 1:
        return form(values[0])
    return f"{form(median(values))} ({form(min(values))} to {form(max(values))})"


def times(values):
    return spread(values, "{:.2f}".format)


def micros(values):
    return spread(values, "{:.1f}".format)


def head(run):
    machine, versions = run["machine"], run["versions"]
    others = ", ".join(f"{name} {version}" for name, version in versions.items() if name not in ("Keyward", "commit"))
    lines = [
        f"Measured {run['begun']} at commit `{versions['commit']}`, in {run['rounds']} rounds with loads of "
        f"{run['seconds']} s, {run['minutes']} minutes in all: {machine['cpu']}, {machine['cores']} cores, "
        f"{machine['system']}, Linux {machine['kernel']}; {others}."
    ]
    if run["load_before"] > QUIET:
        lines.append(
            f"**The machine had other work (load average {run['load_before']:.1f} before the first round): these "
            "figures only show that everything was measured.**"
        )
    return "\n\n".join(lines)


def in_order(run, rows):
    """All peers of these rows, as the rows name them."""
    names = []
    for row in rows:
        present = [*run["rows"][row]["measured"], *run["rows"][row]["cannot"]]
        names += [name for name in ROWS[row][2] if name in present and name not in names]
    return names


def ratios(run, row, name):
    """Each round's figure over that of the base in the same round."""
    measured = run["rows"][row]["measured"]
    if name not in measured or BASE not in measured:
        return []
    return [mine["us"] / base["us"] for mine, base in zip(measured[name], measured[BASE])]


class Reasons:
    """Why cells are empty, told once below a table."""

    def __init__(self):
        self.known = []

    def cell(self, reason):
        if reason not in self.known:
            self.known.append(reason)
        return f"no [{self.known.index(reason) + 1}]"

    def text(self):
        return "\n".join(f"[{n + 1}] {reason}.  " for n, reason in enumerate(self.known)).rstrip()


def grid(run, cell):
    """A line for each peer, a column for each row."""
    rows = [row for row in ROWS if row in run["rows"]]
    reasons = Reasons()
    lines = []
    for name in in_order(run, rows):
        if name.startswith("+"):
            continue
        cells = [name]
        for row in rows:
            found = run["rows"][row]
            if name in found["cannot"]:
                cells.append(reasons.cell(found["cannot"][name]))
            else:
                cells.append(cell(row, name) or "")
        lines.append(cells)
    titles = ["", *(ROWS[row][0] for row in rows)]
    return "\n\n".join(part for part in (table(titles, lines), reasons.text()) if part)


def relative(run):
    def cell(row, name):
        found = ratios(run, row, name)
        return found and times(found)

    return (
        f"CPU time for each request (SSE: each event), relative to `{BASE}` in the same round: the median, with the "
        "least and the most. Less is better.\n\n" + grid(run, cell)
    )


def absolute(run):
    def cell(row, name):
        found = run["rows"][row]["measured"].get(name)
        return found and micros([one["us"] for one in found])

    return "The same in µs. Compare only within a row and a run.\n\n" + grid(run, cell)


def stages(run):
    rows = [row for row in ("get", "post") if row in run["rows"]]
    if not rows:
        return ""
    lines = []
    for stage in STAGES:
        cells = [TITLES[stage] if stage != STAGES[-1] else "+ usage record: all stages"]
        for row in rows:
            mine = ratios(run, row, TITLES[stage])
            cells.append(times(mine) if mine else "")
        if any(cells[1:]):
            lines.append(cells)
    if not lines:
        return ""
    titles = ["each line with one stage more", *(ROWS[row][0] for row in rows)]
    return f"What each stage of Keyward costs, relative to `{BASE}` as above.\n\n" + table(titles, lines)


def latency(run):
    found = run["latency"]
    direct = found[""]
    lines = []
    for name in COMPARED:
        if name not in found:
            continue
        cells = [name]
        for percentile in ("p50_us", "p99_us"):
            cells.append(micros([mine[percentile] - base[percentile] for mine, base in zip(found[name], direct)]))
        lines.append(cells)
    lags = [one["lag_p99_us"] for all_of_one in found.values() for one in all_of_one]
    return (
        f"Added latency in µs at {LATENCY_RATE} requests of 2 KB a second: the percentile through the proxy less that of "
        f"the service alone in the same round (p50 {micros([one['p50_us'] for one in direct])}, p99 "
        f"{micros([one['p99_us'] for one in direct])}). Requests are sent by the clock, and times count from when they "
        f"were due; 99 % were sent within {max(lags):.0f} µs of that.\n\n" + table(["", "p50", "p99"], lines)
    )


def mib(size):
    return f"{size / (1 << 20):.1f}"


def memory(run):
    lines = []
    for name in COMPARED:
        if name not in run["memory"]:
            continue
        figures = run["memory"][name]
        each = (figures["held"][0] - figures["warm"][0]) / figures["connections"] / 1024
        cells = [name]
        cells += [f"{mib(figures[key][0])} / {mib(figures[key][1])}" for key in ("idle", "64", "1000", "held")]
        lines.append([*cells, f"{each:.1f}"])
    titles = ["PSS / RSS, MiB", "started", "64 connections at work", "1,000 at work", "5,000 idle", "KB for each idle one"]
    return "Memory of fresh processes; idle connections have had one answer.\n\n" + table(titles, lines)


def starts(run):
    lines = []
    for name in COMPARED:
        if name in run["start"]:
            size = run["sizes"].get(name)
            lines.append([name, spread(run["start"][name], "{:.0f}".format), mib(size) if size else ""])
    titles = ["", "start to first answer, ms", "program, MiB"]
    return "With 1,000 keys and 100 routes (`plain`: routes). The program without the libraries it shares.\n\n" + table(
        titles, lines
    )


def workers(run):
    found = run["workers"]
    if "cannot" in found:
        return f"Two workers instead of one: not measured, {found['cannot']}."
    one, two = found["measured"]["1"], found["measured"]["2"]
    cost = times([b["us"] / a["us"] for a, b in zip(one, two)])
    told = f"Two workers instead of one, POST 2 KB: CPU time for each request × {cost}"
    if found["shared core"]:
        return told + ". Throughput says nothing here: the load needs one of the two cores."
    return told + f", requests × {times([b['count'] / a['count'] for a, b in zip(one, two)])}."


def checked(run):
    columns = ["auth", "limit", "scan request", "scan response", "scan stream"]
    titles = ["", "keys and stamps", "limit", "request refused", "answer refused", "stream stopped"]
    lines = [
        [name, *("yes" if did.get(column) else "-" for column in columns)]
        for name, did in run["checks"].items()
    ]
    return (
        "What each was seen to do before it was measured, by real requests: 401 without a key and a forged header "
        "replaced, 429, and `<SCRIPT src=x>alert(1)</script>` stopped: in a request, in an answer, and spread over the "
        "events of a stream.\n\n" + table(titles, lines)
    )
