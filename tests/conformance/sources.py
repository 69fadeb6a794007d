"""Redis 7.0.15's source package: the tree with the test suite, fetched once.

The machine's own package sources are asked for the source package: its `deb` entries are copied to a temporary file as
`deb-src`, which apt is pointed at by options. The machine's configuration and package lists stay as they are.
"""

import os
import shutil
import subprocess
from pathlib import Path

VERSION = "7.0.15"
ETC = Path("/etc/apt")


class Unavailable(Exception):
    """The sources cannot be had; the text says what to do."""


ADVICE = (
    "install what is missing, or unpack the source package by hand (`apt-get source redis`, or the release of "
    f"Redis {VERSION}) and name its folder with --sources"
)


def tree(where, given):
    """The folder of the unpacked sources: `given`, or the cached one under `where`, fetched if need be."""
    if given:
        given = given.resolve()
        if not (given / "tests" / "test_helper.tcl").is_file():
            raise Unavailable(f"{given} holds no tests/test_helper.tcl: it is not Redis' source tree")
        return given
    unpacked = where / f"redis-{VERSION}"
    if (unpacked / "tests" / "test_helper.tcl").is_file():
        return unpacked
    for program, package in [("apt-get", "apt"), ("dpkg-source", "dpkg-dev")]:
        if shutil.which(program) is None:
            raise Unavailable(f"fetching Redis {VERSION} needs {program} ({package}): scripts/install-peers; {ADVICE}")
    print(f"conformance: fetching the source package of redis {VERSION}", flush=True)
    fetch(where / "fetch")
    fresh = where / "fetch" / f"redis-{VERSION}"
    if not fresh.is_dir():
        found = ", ".join(p.name for p in (where / "fetch").glob("redis*")) or "nothing"
        raise Unavailable(f"the machine's package source has another Redis than {VERSION} ({found}); {ADVICE}")
    fresh.rename(unpacked)
    shutil.rmtree(where / "fetch")
    return unpacked


def fetch(into):
    """Downloads and unpacks the source package in `into`."""
    shutil.rmtree(into, ignore_errors=True)
    for folder in ["lists/partial", "archives/partial", "parts"]:
        (into / folder).mkdir(parents=True)
    wrote = source_entries(into / "parts")
    if not wrote:
        raise Unavailable(f"{ETC} has no entry with redis-server's packages to derive a source entry from; {ADVICE}")
    options = {
        "Dir::Etc::sourcelist": "/dev/null",
        "Dir::Etc::sourceparts": into / "parts",
        "Dir::State::lists": into / "lists",
        "Dir::Cache": into,
        "APT::Get::List-Cleanup": "0",
    }
    # Root's apt hands downloads to a user who may not enter this folder.
    if os.geteuid() == 0:
        options["APT::Sandbox::User"] = "root"
    apt = ["apt-get", "-q"] + [f"-o{name}={value}" for name, value in options.items()]
    for step in (["update"], ["source", "redis"]):
        done = subprocess.run(apt + step, cwd=into, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if done.returncode != 0:
            last = "\n    ".join(done.stdout.strip().splitlines()[-8:])
            raise Unavailable(f"apt-get {' '.join(step)} failed:\n    {last}\n{ADVICE}")


def source_entries(into):
    """Copies the machine's `deb` entries as `deb-src` ones; both of apt's forms. Returns the number of entries."""
    count = 0
    files = [ETC / "sources.list", *sorted((ETC / "sources.list.d").glob("*"))]
    for path in files:
        try:
            text = path.read_text()
        except OSError:
            continue
        if path.suffix == ".sources":
            blocks = [b for b in text.split("\n\n") if b.strip()]
            kept = [block for block in map(as_source_block, blocks) if block]
            count += len(kept)
            text = "\n\n".join(kept)
        elif path.suffix == ".list":
            lines = [line for line in text.splitlines() if line.split()[:1] == ["deb"] and is_distribution(line)]
            count += len(lines)
            text = "".join(line.replace("deb", "deb-src", 1) + "\n" for line in lines)
        else:
            continue
        if text:
            (into / path.name).write_text(text + "\n")
    return count


def as_source_block(block):
    """A block of the newer form with `deb-src` for `deb`, or None if it is not the distribution's."""
    if not is_distribution(block):
        return None
    lines = block.splitlines()
    changed = ["Types: deb-src" if line.lower().startswith("types:") else line for line in lines]
    return "\n".join(line for line in changed if not line.lower().startswith("architectures:"))


def is_distribution(entry):
    """Is this an entry of the distribution itself? Others hold no source of redis, and may not answer."""
    try:
        release = Path("/etc/os-release").read_text()
    except OSError:
        return True
    code = [line.split("=", 1)[1].strip('"') for line in release.splitlines() if line.startswith("VERSION_CODENAME=")]
    words = entry.replace("\n", " ").split()
    return not code or any(w == code[0] or w.startswith((code[0] + "-", code[0] + "/")) for w in words)
