"""Weaves the entries of tests/mutants/list.txt into a copy of the sources: `mutants.py LIST TREE`.

All of them are woven into one tree, so that it is built once: what an entry replaces runs as it was unless KEYWARD_BROKEN
is the entry's number. Prints a line for each entry: its number, a tab, and what it is called.
"""

import collections
import itertools
import pathlib
import re
import sys

SWITCH = """
/// Whether the code that entry `entry` of the list replaces is to run as the entry says.
pub fn broken(entry: u32) -> bool {
    static BROKEN: std::sync::LazyLock<Option<u32>> =
        std::sync::LazyLock::new(|| std::env::var("KEYWARD_BROKEN").ok()?.parse().ok());
    *BROKEN == Some(entry)
}
"""

# A line with one expression in it, by what stands around the expression.
FRAMES = [
    r"(?P<before>\s*let (?:mut )?[^=]+? = )(?P<inner>[^=].*)(?P<behind>;)",
    r"(?P<before>\s*(?:\} else )?(?:if|while) )(?P<inner>(?!let ).*)(?P<behind> \{)",
    r"(?P<before>\s*match )(?P<inner>.*)(?P<behind> \{)",
    r"(?P<before>\s*[^=]*? => )(?P<inner>.*[^{])(?P<behind>,)",
    r"(?P<before>\s*[a-z_]+: )(?P<inner>.*)(?P<behind>,)",
]
ARM = re.compile(r"\s*(?P<pattern>.*?)(?: if (?P<guard>.*?))?(?P<behind> => .*)")


class Unweavable(Exception):
    pass


def entries(text):
    for number, entry in enumerate(text.split("\n## ")[1:], 1):
        head, body = entry.split("\n", 1)
        old, new = body.split("\n=>\n")
        yield number, head, old, new.rstrip("\n")


def place(text, old, new):
    """The first line and the line behind the last that an entry speaks of, and what it makes of them."""
    if text.count(old) != 1:
        raise Unweavable(f"the lines to replace stand {text.count(old)} times in the file: bring the list up to date")
    start = text.index(old)
    begin = text.rfind("\n", 0, start) + 1
    end = text.find("\n", start + len(old))
    changed = text[begin:start] + new + text[start + len(old):end]
    first = text.count("\n", 0, begin)
    return first, text.count("\n", 0, end) + 1, changed.split("\n")


def narrowed(old, new):
    """What can be left out at both ends because it is the same, the most first."""
    same = lambda pairs: len(list(itertools.takewhile(lambda pair: pair[0] == pair[1], pairs)))
    before = same(zip(old, new))
    behind = min(same(zip(old[::-1], new[::-1])), len(old) - before, len(new) - before)
    pairs = itertools.product(range(before + 1), range(behind + 1))
    return sorted(pairs, key=sum, reverse=True)


def choose(number, old, new):
    return f"if crate::broken({number}) {{ {new} }} else {{ {old} }}"


def woven(number, old, new):
    """Lines that do what the old ones do, or the new ones. `None` where that is not to be had so simply."""
    if len(old) == len(new) == 1:
        for frame in FRAMES:
            a, b = re.fullmatch(frame, old[0]), re.fullmatch(frame, new[0])
            if a and b and a["before"] == b["before"]:
                return a["before"] + f"({choose(number, a['inner'], b['inner'])})" + a["behind"]
        a, b = ARM.fullmatch(old[0]), ARM.fullmatch(new[0])
        if a and b and (a["pattern"], a["behind"]) == (b["pattern"], b["behind"]):
            guards = [match["guard"] or "true" for match in (a, b)]
            return f"{a['pattern']} if ({choose(number, *guards)}){a['behind']}"
    old, new = "\n".join(old), "\n".join(new)
    for text in (old, new):
        depth = [text[:at].count("{") - text[:at].count("}") for at in range(len(text) + 1)]
        is_value = not text.rstrip().endswith((";", "}"))
        if min(depth) < 0 or depth[-1] != 0 or re.match(r"\s*(\.|\||&&|else\b)", text) or text.rstrip().endswith(","):
            return None
        if re.match(r"\s*let\b", text) and not is_value:
            return None
    return choose(number, old, new)


def main(path, tree):
    tree = pathlib.Path(tree)
    wrong = []
    by_file = collections.defaultdict(lambda: collections.defaultdict(list))
    for number, head, old, new in entries(pathlib.Path(path).read_text()):
        name = head.split(": ", 1)[0]
        text = (tree / name).read_text()
        try:
            first, last, changed = place(text, old, new)
            lines = text.split("\n")[first:last]
            for before, behind in narrowed(lines, changed):
                some = lines[before:len(lines) - behind], changed[before:len(changed) - behind]
                if some[0] and woven(number, *some) is not None:
                    by_file[name][first + before, last - behind].append((number, some[1]))
                    break
            else:
                raise Unweavable("what changes is no whole statement, and no line with one expression that changes")
            print(f"{number}\t{head}")
        except Unweavable as error:
            wrong.append(f"{head}: {error}")
    for name, places in by_file.items():
        lines = (tree / name).read_text().split("\n")
        below = len(lines)
        for (first, last), changes in sorted(places.items(), reverse=True):
            if last > below:
                wrong.append(f"{name}: two entries change line {below + 1}, and not the same lines around it")
                continue
            below = first
            some = lines[first:last]
            for number, changed in changes:
                some = (woven(number, some, changed) or "").split("\n")
            lines[first:last] = some
        (tree / name).write_text("\n".join(lines))
    if wrong:
        sys.exit("\n".join(wrong))
    with open(tree / "src/lib.rs", "a") as library:
        library.write(SWITCH)


main(*sys.argv[1:])
