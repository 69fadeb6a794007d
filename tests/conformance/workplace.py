"""Where units run: a copy of the suite each, with the program under test in the place of src/redis-server.

The suite cleans tests/tmp of the tree it runs in, so no two units share one. What it prints is read line by line; a
unit ends in time or is ended, and no process that lives in its copy survives it.
"""

import os
import re
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import units

PORTS_A_UNIT = 300
LAST_LINES = 25
OUTSIDE = "(outside of a test) "
REAL = ["redis-cli", "redis-benchmark", "redis-check-aof", "redis-check-rdb"]
LINE = re.compile(r"\[(ok|err|skip|ignore|exception|TIMEOUT)\]: (.*)")


class Missing(Exception):
    """A program is not there."""


def real(program):
    """The path of one of Redis' own programs."""
    path = shutil.which(program)
    if path is None:
        raise Missing(f"{program} is not installed; run scripts/install-peers")
    return Path(path)


@dataclass
class Result:
    """What became of a unit."""

    unit: object
    passed: Counter = field(default_factory=Counter)
    failed: dict = field(default_factory=dict)
    skipped: set = field(default_factory=set)
    left_out: Counter = field(default_factory=Counter)
    ended: str = ""
    last: list = field(default_factory=list)
    seconds: float = 0.0
    runs: int = 1
    peer: bool = False
    partial: bool = False
    folder: Path = None

    @property
    def expected(self):
        """Failed tests that the list names."""
        return [name for name in self.failed if not self.peer and name in self.unit.fails]

    @property
    def unexpected(self):
        """What makes the run fail: `(name, why)`."""
        found = [(n, why) for n, why in self.failed.items() if self.peer or n not in self.unit.fails]
        return found + ([("(the unit)", [self.ended])] if self.ended else [])

    @property
    def stale(self):
        """Exceptions of the list that did not fail, or that the suite does not have."""
        if self.peer or self.partial or self.ended:
            return []
        healed = [(n, "passes now") for n in self.unit.fails if n not in self.failed]
        return healed + [(n, "is not a test of this unit") for n in self.unit.skips if n not in self.skipped]


class Place:
    """A folder for the copies of one run."""

    def __init__(self, tree, server, args):
        # A short path: the suite's servers open Unix sockets deep inside of it, and those have 107 bytes.
        self.folder = Path(tempfile.mkdtemp(prefix="conf-"))
        self.tree, self.args = tree, args
        # A copy: the program may be rebuilt while units run.
        self.server = self.folder / "redis-server"
        shutil.copy2(server.resolve(), self.server)
        self.tools = {name: real(name) for name in REAL}
        self.kept = False

    def end(self):
        """Removes what is not needed any more."""
        kill_residents(self.folder)
        if not self.kept and not self.args.keep:
            shutil.rmtree(self.folder, ignore_errors=True)

    def copy(self, unit):
        """A tree for one unit."""
        into = self.folder / unit.name.rsplit("/", 1)[-1]
        shutil.rmtree(into, ignore_errors=True)
        shutil.copytree(self.tree / "tests", into / "tests", ignore=shutil.ignore_patterns("tmp", "modules"))
        (into / "tests" / "tmp").mkdir()
        shutil.copytree(self.tree / "utils", into / "utils", symlinks=True)
        for path in self.tree.glob("*.conf"):
            shutil.copy2(path, into)
        if unit.without and not self.args.peer:
            path = into / "tests" / f"{unit.name}.tcl"
            source, missing = units.without(path.read_text(), unit.without)
            if missing:
                raise units.BadList(f"{unit.name} has no line {sorted(missing)[0]!r}")
            path.write_text(source)
        (into / "src").mkdir()
        os.link(self.server, into / "src" / "redis-server")
        for name, path in self.tools.items():
            (into / "src" / name).symlink_to(path)
        return into

    def run(self, unit, slot, progress):
        """Runs a unit in a copy of its own, on ports of its slot."""
        folder = self.copy(unit)
        result = Result(unit, peer=self.args.peer, partial=bool(self.args.only), folder=folder)
        port = self.args.base_port + slot * PORTS_A_UNIT
        command = ["tclsh", "tests/test_helper.tcl", "--single", unit.name, "--clients", "1", "--durable"]
        command += ["--baseport", str(port), "--portcount", str(PORTS_A_UNIT - 32)]
        command += ["--timeout", str(self.args.silence), "--dont-clean"]
        for name in self.args.only:
            command += ["--only", name]
        if not self.args.peer:
            for name in unit.skips:
                command += ["--skiptest", name]
        began = time.monotonic()
        process = subprocess.Popen(
            command, cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, errors="replace", start_new_session=True, env={**os.environ, "TERM": "dumb"},
        )
        overdue = threading.Timer(self.args.timeout, end_group, [process.pid])
        overdue.start()
        try:
            with open(folder / "output", "w") as copy:
                self.follow(process.stdout, result, copy, progress)
            code = process.wait()
        finally:
            alive = overdue.is_alive()
            overdue.cancel()
            end_group(process.pid)
            kill_residents(folder)
        result.seconds = time.monotonic() - began
        if not alive:
            result.ended = f"took more than {self.args.timeout} s and was ended"
        elif code not in (0, 1) or (code == 1 and not result.failed and not result.ended):
            result.ended = result.ended or f"the suite ended with code {code}"
        if result.unexpected or self.args.keep:
            self.kept = True
        else:
            shutil.rmtree(folder, ignore_errors=True)
        return result

    @staticmethod
    def follow(lines, result, copy, progress):
        """Reads what the suite prints, to its end."""
        failing, last, over = None, [], False
        for line in lines:
            copy.write(line)
            line = line.rstrip("\n")
            last = (last + [line])[-LAST_LINES:]
            over = over or line.strip() == "The End"
            m = LINE.match(line)
            if m is None:
                if failing is not None and line and len(failing) < 12 and not over:
                    failing.append(line)
                continue
            kind, name = m.groups()
            failing = None
            if kind == "ok":
                name = re.sub(r" \(\d+ ms\)$", "", name)
                result.passed[name] += 1
                progress.passed(result.unit, name)
            elif kind == "err" and not over:
                failing = result.failed.setdefault(*failure(name, result.unit.name))
                progress.failed(result.unit, name)
            elif kind == "skip":
                result.skipped.add(name)
            elif kind == "ignore":
                result.left_out[name] += 1
            elif kind == "exception":
                result.ended = f"the unit broke off: {name}"
            elif kind == "TIMEOUT":
                result.ended = "the suite saw no progress for too long"
        if not over and not result.ended:
            result.ended = "the suite ended early"
        if result.ended or result.failed:
            result.last = last


def failure(text, unit):
    """The test's name and the first line of what went wrong."""
    where = f" in tests/{unit}.tcl"
    if text.endswith(where):
        return text.removesuffix(where), []
    return OUTSIDE + text, []


def end_group(pid):
    """Ends what the suite started."""
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def kill_residents(folder):
    """Ends processes whose current folder or program is inside of `folder`: servers that left the group."""
    for proc in Path("/proc").glob("[0-9]*"):
        try:
            homes = [os.readlink(proc / "cwd"), os.readlink(proc / "exe")]
        except OSError:
            continue
        if any(home.startswith(f"{folder}/") or home == str(folder) for home in homes) and proc.name != str(os.getpid()):
            try:
                os.kill(int(proc.name), signal.SIGKILL)
            except ProcessLookupError:
                pass
