"""`python -m bench`: measure, compare, print a table."""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.cases import CASES, Bench, Case
from bench.stacks import LxcLaunch, PodmanCompose
from bench.tools import ROOT, Boxwright, Buildah, BuildKit, BuildStream, CommandFailedError, GitArchive, Tool

PEAK_LIMIT = 80_000_000


@dataclass(frozen=True)
class Row:
    """The medians of a case, by tool; None where the tool failed."""

    case: Case
    medians: dict[str, float | None]

    @property
    def own(self) -> float | None:
        return self.medians.get("boxwright")

    @property
    def reached(self) -> bool | None:
        limit = self.limit
        return None if limit is None else self.own is not None and self.own <= limit

    @property
    def limit(self) -> float | None:
        """In seconds; where a peer sets it, that peer must have been measured."""
        if self.case.times is None:
            return self.case.limit
        peer = self.medians.get(self.case.peers[0])
        return self.case.times * peer if peer else None

    def ratio(self, tool: str) -> float | None:
        """How many times as long the tool takes."""
        other = self.medians.get(tool)
        return other / self.own if other and self.own else None


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    names = [case.name for case in CASES]
    parser.add_argument(
        "--only", action="append", choices=names, metavar="NAME", help=f"these rows: {', '.join(names)}"
    )
    parser.add_argument("--runs", type=int, default=5, help="how often each is measured (default 5); medians are shown")
    parser.add_argument(
        "--peers", default="buildkit,buildah,buildstream,git,compose,lxc", help="`none`, or some of them (default: all)"
    )
    parser.add_argument(
        "--work", type=Path, help="work here and keep it with the stores (default: a temporary directory)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers to this file as well")
    options = parser.parse_args()
    if options.runs < 1:
        parser.error("--runs must be 1 or more")
    return options


@contextmanager
def working_directory(kept: Path | None) -> Iterator[Path]:
    if kept:
        kept.mkdir(parents=True, exist_ok=True)
        yield kept.resolve()
        return
    # In the checkout: what is temporary may lie in memory, and overlays behave differently there.
    cache = ROOT / ".cache"
    cache.mkdir(exist_ok=True)
    directory = Path(tempfile.mkdtemp(prefix="bench-", dir=cache))
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def prepared(tools: Sequence[Tool], work: Path) -> list[Tool]:
    """Those that are there, each with the base at hand."""
    base = work / "base.tar"
    if any(isinstance(tool, BuildKit | Buildah) for tool in tools) and not base.exists():
        say("making the base for the other builders")
        subprocess.run(["mmdebstrap", "--quiet", "--variant=minbase", "bookworm", base], check=True)
    ready = []
    for tool in tools:
        if not tool.answers():
            say(f"{tool.name} does not answer: left out (`make engines` starts it)")
            continue
        say(f"{tool.name}: preparing")
        tool.prepare(base)
        ready.append(tool)
    return ready


def median(case: Case, tool: Tool, work: Path, runs: int) -> float | None:
    try:
        samples = [case.measure(Bench(tool, work)) for _ in range(case.runs or runs)]
    except CommandFailedError as error:
        say(f"{case.name}, {tool.name}: {error}")
        return None
    return statistics.median(samples)


def measure(cases: Sequence[Case], tools: Sequence[Tool], work: Path, runs: int) -> list[Row]:
    rows = []
    for case in cases:
        say(f"measuring {case.name}")
        taking_part = [tool for tool in tools if tool is tools[0] or tool.name in case.peers]
        rows.append(Row(case, {tool.name: median(case, tool, work, runs) for tool in taking_part}))
    return rows


def seconds(value: float | None) -> str:
    return "failed" if value is None else f"{value:.2f} s" if value >= 1 else f"{value * 1000:.0f} ms"


def verdict(*, reached: bool | None) -> str:
    return {True: "yes", False: "NO", None: ""}[reached]


def table(rows: Sequence[Row], tools: Sequence[Tool], peak: int) -> str:
    peers = [tool.name for tool in tools[1:]]
    lines = [["work", "boxwright", "at most", "reached", *(word for name in peers for word in (name, "ratio"))]]
    for row in rows:
        line = [row.case.work, seconds(row.own), seconds(row.limit) if row.limit else ""]
        line.append(verdict(reached=row.reached))
        for name in peers:
            ratio = row.ratio(name)
            line += [seconds(row.medians[name]) if name in row.medians else "", f"{ratio:.1f}x" if ratio else ""]
        lines.append(line)
    memory = ["peak memory of its largest process", f"{peak / 1e6:.0f} MB", f"{PEAK_LIMIT / 1e6:.0f} MB"]
    lines.append([*memory, verdict(reached=peak < PEAK_LIMIT), *("" for _ in peers for _ in range(2))])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])]).rstrip() for line in lines
    )


def as_json(rows: Sequence[Row], peak: int, runs: int) -> str:
    found = [
        {"name": row.case.name, "limit": row.limit, "reached": row.reached, "medians": row.medians} for row in rows
    ]
    memory = {"peak_bytes": peak, "limit": PEAK_LIMIT, "reached": peak < PEAK_LIMIT}
    return json.dumps({"runs": runs, "rows": found, "memory": memory}, indent=2) + "\n"


def main() -> None:
    options = arguments()
    cases = [case for case in CASES if not options.only or case.name in options.only]
    with working_directory(options.work) as work:
        own = Boxwright(work / "store")
        known: dict[str, Tool] = {"buildkit": BuildKit(), "buildah": Buildah(work / "buildah"),
                                  "buildstream": BuildStream(work / "buildstream"), "git": GitArchive(),
                                  "compose": PodmanCompose(), "lxc": LxcLaunch()}  # fmt: skip
        wanted = [] if options.peers == "none" else options.peers.split(",")
        if unknown := set(wanted) - set(known):
            sys.exit(f"bench: no such peer: {', '.join(sorted(unknown))}; there are: {', '.join(known)}")
        names = {name for case in cases for name in case.peers}
        tools = prepared([own, *(known[name] for name in wanted if known[name].name in names)], work)
        rows = measure(cases, tools, work, options.runs)
    print(f"\nMedians of {options.runs} runs, whole process; ratio: how many times as long the other takes.\n")
    print(table(rows, tools, own.peak_bytes))
    print("\nArchives: boxwright zstd, BuildKit of docker.io uncompressed, buildah gzip.")
    if options.json:
        options.json.write_text(as_json(rows, own.peak_bytes, options.runs))


if __name__ == "__main__":
    main()
