"""Verify the store: the index, every tree object, and every file of every state. Exit status 4 where it is damaged."""

from __future__ import annotations

import argparse
import os

from boxwright.cli.console import note, say

DAMAGED = 4


def configure(parser: argparse.ArgumentParser) -> None:
    """The options of `fsck`."""
    parser.add_argument("--repair", action="store_true", help="forget what is damaged, so that it is built again")


def run(options: argparse.Namespace) -> int:
    """Verify, and say what is damaged."""
    from boxwright.app.upkeep import check

    report = check(os.environ, repair=options.repair)
    for problem in report.problems:
        say(f"{problem.what}: {problem.text}")
    for name in report.lost:
        say(f"image {name}: removed; build it again")
    if not report.problems:
        say(f"{report.snapshots} states are well")
        return 0
    if report.repaired:
        say("what was damaged is forgotten and will be built again")
        return 0
    if any(problem.what == "index" for problem in report.problems):
        note("  hint: the index can't be mended: move the store away, and build again")
    else:
        note("  hint: 'boxwright fsck --repair' forgets what is damaged, so that it is built again")
    return DAMAGED
