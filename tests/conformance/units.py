"""The list of units: which must pass, what Redis itself passes, and each exception with its reason.

    integration/aof           40  32s       # unit, tests the real redis-server passes, about how long it takes
        because: what keeps these from passing
            fails: exact name of a test that runs and fails
            skips: exact name of a test that is not run, for it would hang or abort the unit
            without: a line of the unit; the statements that begin so are taken out of it (what a unit does with
                     commands still to come between its tests would end it, and all tests behind)
    unit/other                74  9s  pending: why this unit is not run unless asked for

A test that fails outside of every test of the suite is named by `fails: (outside of a test) first line of the error`.
"""

import re
from dataclasses import dataclass, field


class BadList(Exception):
    """The list, or a name on the command line, cannot be used."""


@dataclass
class Unit:
    """One unit of the suite."""

    name: str
    count: int
    seconds: int = 10
    pending: str = ""
    fails: dict = field(default_factory=dict)
    skips: dict = field(default_factory=dict)
    without: dict = field(default_factory=dict)


UNIT = re.compile(r"(?P<name>[a-z][\w/-]+)\s+(?P<count>\d+)(?:\s+(?P<seconds>\d+)s)?(?:\s+pending: (?P<why>.+))?$")


def read(path):
    """The units of the list, in its order."""
    found, reason = [], None
    for number, line in enumerate(path.read_text().splitlines(), 1):
        word = line.strip()
        if not word or word.startswith("#"):
            continue

        def bad(text):
            return BadList(f"{path.name}:{number}: {text}: {word}")

        if not line.startswith(" "):
            m = UNIT.match(word)
            if not m:
                raise bad("not a unit")
            found.append(Unit(m["name"], int(m["count"]), int(m["seconds"] or 10), m["why"] or ""))
            reason = None
        elif not found:
            raise bad("an exception before the first unit")
        elif word.startswith("because: "):
            reason = word.removeprefix("because: ")
        elif word.startswith(("fails: ", "skips: ", "without: ")):
            kind, name = word.split(": ", 1)
            if reason is None:
                raise bad("an exception without a reason")
            if name in found[-1].fails or name in found[-1].skips or name in found[-1].without:
                raise bad("listed twice")
            getattr(found[-1], kind)[name] = reason
        else:
            raise bad("neither a unit nor `because:`, `fails:`, `skips:` or `without:`")
    return found


def without(source, lines):
    """A unit's source without the statements that begin with one of these lines, and the lines that were not there."""
    kept, depth, missing = [], 0, set(lines)
    for line in source.split("\n"):
        if depth <= 0 and line.strip() not in lines:
            kept.append(line)
            continue
        if depth <= 0:
            missing.discard(line.strip())
        # Line numbers in errors stay right.
        kept.append("")
        depth = max(depth, 0) + line.count("{") - line.count("}")
    return "\n".join(kept), missing


def choose(listed, words, pending):
    """The units that `words` name (exactly or in part), or all that are not pending."""
    if not words:
        return [u for u in listed if pending or not u.pending]
    chosen = []
    for word in words:
        hits = [u for u in listed if u.name == word] or [u for u in listed if word in u.name]
        if not hits and "/" in word:
            hits = [Unit(word, 0)]
        if not hits:
            raise BadList(f"no unit's name has {word!r} in it")
        chosen += [u for u in hits if u not in chosen]
    return chosen
