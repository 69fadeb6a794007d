"""What a run shows: progress while it runs, and the table after it."""

import sys
import threading
import time

PLAIN_EVERY = 30


class Progress:
    """One line that is rewritten on a terminal, a line a unit elsewhere."""

    def __init__(self, total):
        self.total, self.done = total, 0
        self.state, self.lock = {}, threading.Lock()
        self.live = sys.stdout.isatty()
        self.said = time.monotonic()
        self.width = 0

    def say(self, text):
        """Prints a line above the live one."""
        print("\r" + " " * self.width + "\r" + text if self.live else text, flush=True)
        self.said = time.monotonic()

    def began(self, unit):
        with self.lock:
            self.state[unit.name] = [time.monotonic(), 0, 0, "starting"]

    def again(self, unit):
        self.say(f"         {unit.name}: run again, alone")
        self.began(unit)
        self.done -= 1

    def passed(self, unit, name):
        self.state[unit.name][1] += 1
        self.state[unit.name][3] = "after " + name

    def failed(self, unit, name):
        self.state[unit.name][2] += 1
        self.state[unit.name][3] = "after " + name

    def ended(self, result):
        with self.lock:
            self.state.pop(result.unit.name, None)
        self.done += 1
        verdict = "FAILED" if result.unexpected else "ok"
        passed = sum(result.passed.values())
        self.say(f"[{self.done:2}/{self.total}] {result.unit.name}: {verdict}, {passed} passed, "
                 f"{len(result.failed)} failed, {result.seconds:.0f} s")

    def tick(self, now):
        """Shows where the running units are."""
        with self.lock:
            parts = [f"{name} {now - s[0]:.0f}s {s[1]} ok" + (f" {s[2]} failed" if s[2] else "") + f": {s[3][:40]}"
                     for name, s in self.state.items()]
        text = " | ".join(parts)[:150]
        if self.live:
            print("\r" + text.ljust(self.width), end="", flush=True)
            self.width = len(text)
        elif now - self.said >= PLAIN_EVERY and text:
            self.say("         " + text)


def report(results, waiting, place):
    """Prints failures, stale exceptions and the table; returns the exit code."""
    bad = [r for r in results if r.unexpected]
    for r in bad:
        print(f"\n=== {r.unit.name}" + (f" (kept in {r.folder})" if r.folder.exists() else ""))
        for name, why in r.unexpected:
            print(f"  {name}")
            for line in why:
                print(f"      {line}")
        if r.ended:
            print("  last lines:")
            for line in r.last:
                print(f"      {line}")
    excepted = [r for r in results if not r.peer and (r.expected or r.unit.skips or r.unit.without)]
    if excepted:
        print("\nExceptions, by name in tests/conformance/units.txt:")
    for r in excepted:
        reasons = {}
        for name in r.expected:
            reasons.setdefault(r.unit.fails[name], []).append(name)
        for name, why in r.unit.skips.items():
            reasons.setdefault(why, []).append(name + " (not run)")
        for why, names in reasons.items():
            print(f"  {r.unit.name}: {len(names)}: {why}")
        for why in dict.fromkeys(r.unit.without.values()):
            lines = sum(other == why for other in r.unit.without.values())
            print(f"  {r.unit.name}: run without {lines} statement(s): {why}")
    for r in results:
        for name, why in r.stale:
            print(f"\nRemove from the list: {r.unit.name}: {name!r} {why}")
    print()
    head = ["unit", "passed", "failed", "excepted", "Redis", "seconds", ""]
    rows = [row(r) for r in results]
    rows.append(["all", *(sum(x[i] for x in rows) for i in range(1, 5)), sum(x[5] for x in rows), ""])
    print_aligned([head, *[[*r[:5], f"{r[5]:.0f}", r[6]] for r in rows]])
    for why, count in sorted(total_left_out(results).items()):
        print(f"left out by the suite itself: {count} x {why}")
    for u in waiting:
        print(f"pending: {u.name}: {u.pending}")
    stale = any(r.stale for r in results)
    print("\n" + (f"{len(bad)} of {len(results)} units FAILED" if bad else f"all {len(results)} units as listed")
          + ("; the list has entries to remove" if stale else ""))
    return 1 if bad else 0


def row(r):
    """A unit's row."""
    notes = []
    if r.ended:
        notes.append(r.ended)
    if r.runs > 1:
        notes.append(f"{'failed' if r.unexpected else 'passed'} alone, in run {r.runs}")
    if r.stale:
        notes.append("exceptions to remove")
    unexpected = len(r.unexpected)
    excepted = 0 if r.peer else len(r.expected) + len(r.unit.skips)
    return [r.unit.name, sum(r.passed.values()), unexpected, excepted, r.unit.count, r.seconds, "; ".join(notes)]


def total_left_out(results):
    """Tests the suite left out by its tags."""
    total = {}
    for r in results:
        for name, n in r.left_out.items():
            why = name.rsplit(": ", 1)[-1] if ": " in name else name
            total[why] = total.get(why, 0) + n
    return total


def print_aligned(rows):
    """Columns as wide as their widest cell, numbers to the right."""
    widths = [max(len(str(r[i])) for r in rows) for i in range(len(rows[0]))]
    for r in rows:
        cells = [str(c).rjust(w) if i in range(1, 6) else str(c).ljust(w) for i, (c, w) in enumerate(zip(r, widths))]
        print("  ".join(cells).rstrip())
