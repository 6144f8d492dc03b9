"""``python -m tests.conformance``: all cases, a table, and the table's copy in the documentation."""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
import threading
import time
from pathlib import Path

import yaml

from tests.conformance.cases import HERE, load_cases, recorded
from tests.conformance.running import Session, Verdict, default_jobs, run_all, stale
from tests.conformance.table import PAGE, section, with_section


def main() -> int:
    """Run; the status is 1 where anything differs that is not accepted."""
    options = _options()
    wanted = [case for case in load_cases() if re.search(options.only, case.key)]
    started = time.monotonic()
    lock = threading.Lock()

    def tell(verdict: Verdict) -> None:
        with lock:
            if verdict.problems and (not verdict.reason or options.verbose):
                print(f"{verdict.result}  {verdict.case.key}  ({verdict.judge})")
                for line in verdict.problems:
                    print("    " + line.replace("\n", "\n      "))
                sys.stdout.flush()

    work = tempfile.TemporaryDirectory(prefix="conformance-", ignore_cleanup_errors=True)
    with work as name, Session(Path(name)) as session:
        judge = session.judge.name if session.judge else "no BuildKit"
        verdicts = run_all(session, wanted, options.jobs, tell)
    counts = {word: sum(verdict.result == word for verdict in verdicts) for word in ("agree", "accepted", "differ")}
    if options.record:
        _record(verdicts)
    if not options.only:
        print(section(verdicts))
        if options.write and not counts["differ"]:
            PAGE.write_text(with_section(PAGE.read_text(encoding="utf-8"), verdicts), encoding="utf-8")
    seconds = time.monotonic() - started
    print(
        f"{len(verdicts)} cases, judged by {judge}: "
        + ", ".join(f"{n} {w}" for w, n in counts.items())
        + f"; {seconds:.0f} s"
    )
    for key in stale(verdicts):
        print(f"no longer differs, take it out of accepted.yaml: {key}")
    return 1 if counts["differ"] else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="conformance", description="Compare builds with those of a real BuildKit.")
    parser.add_argument(
        "--only", default="", metavar="PATTERN", help="cases whose INSTRUCTION/NAME matches this regular expression"
    )
    parser.add_argument("--jobs", type=int, default=default_jobs())
    parser.add_argument("--record", action="store_true", help="keep what the judge gave, for older judges")
    parser.add_argument("--write", action="store_true", help="rewrite the table in docs/dockerfile.md where all agree")
    parser.add_argument("--verbose", action="store_true", help="show accepted differences too")
    return parser.parse_args()


def _record(verdicts: list[Verdict]) -> None:
    """Keep the judge's results of cases that the oldest judge doesn't understand."""
    from tests.conformance.cases import OLDEST

    kept = dict(recorded())
    for verdict in verdicts:
        if verdict.record is not None and verdict.case.expect is None and verdict.case.needs != OLDEST:
            kept[verdict.case.key] = verdict.record
    known = {case.key for case in load_cases()}
    kept = {key: kept[key] for key in sorted(kept) if key in known}
    text = yaml.safe_dump(kept, sort_keys=False, allow_unicode=True, width=1000)
    head = "# What a newer BuildKit gave for cases that the oldest judge doesn't understand. Written by --record.\n"
    (HERE / "expected.yaml").write_text(head + text, encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
