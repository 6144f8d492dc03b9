"""Runs cases on both sides and says how they compare."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import tarfile
import tempfile
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Self

from tests.conformance.base import write_base
from tests.conformance.builders import TAG, Docker, Ours, Outcome, Refused, make_place
from tests.conformance.cases import Case, CaseError, accepted, load_images, recorded, version
from tests.conformance.server import Server
from tests.conformance.trees import Lines, Observed, differences, differences_from, expectation, read_tree

UNFINISHED = frozenset({"recipe.not-yet"})
CRASHED = "status 70"


@dataclass(frozen=True)
class Verdict:
    """How a case went. `judge` is "BuildKit", "expected" or "none"; `problems` is empty where all agree."""

    case: Case
    judge: str
    problems: tuple[str, ...]
    reason: str = ""
    record: Mapping[str, Any] | None = None

    @property
    def result(self) -> str:
        """One word for the table."""
        if not self.problems:
            return "agree"
        return "accepted" if self.reason else "differ"


@dataclass
class Session:
    """Both sides made ready: the base and the images that cases start from are there."""

    work: Path
    ours: Ours = field(init=False)
    judge: Docker | None = field(init=False)
    server: Server = field(init=False)
    base: Lines = field(init=False)
    _lock: IO[str] = field(init=False)

    def __enter__(self) -> Self:
        self.work.mkdir(parents=True, exist_ok=True)
        self._lock = _locked(os.environ.get("DOCKER_HOST", ""))
        self.ours = Ours(self.work / "store")
        judge = Docker()
        self.judge = judge if judge.answers else None
        self.server = Server(self.work / "served")
        archive = self.work / "base.tar"
        write_base(archive)
        self.base = _layer_of(archive)
        self.ours.prepare(archive)
        if self.judge:
            self.judge.prepare(archive)
        for case in load_images():
            self._make_image(case)
        return self

    def __exit__(self, *_: object) -> None:
        if self.judge:
            self.judge.close()
        self.server.close()
        self._lock.close()

    def _make_image(self, case: Case) -> None:
        place = make_place(case, self.work / "images" / case.slug, self.server)
        outcomes = [self.ours.build(case, place, f"{TAG}{case.name}")]
        if self.judge:
            outcomes.append(self.judge.build(case, place, f"{TAG}{case.name}"))
        for outcome in outcomes:
            if isinstance(outcome, Refused):
                raise CaseError(f"{case.name}: {outcome.said}")

    def run(self, case: Case) -> Verdict:
        """Judge one case."""
        directory = self.work / "cases" / case.slug
        shutil.rmtree(directory, ignore_errors=True)
        place = make_place(case, directory, self.server)
        ours = self.ours.build(case, place)
        judge = None
        if self.judge and version(self.judge.frontend) >= version(case.needs):
            judge = self.judge.build(case, place)
        shutil.rmtree(directory, ignore_errors=True)
        return self._verdict(case, ours, judge)

    def _verdict(self, case: Case, ours: Outcome, judge: Outcome | None) -> Verdict:
        known = case.expect if case.expect is not None else recorded().get(case.key)
        problems: list[str] = []
        if judge is not None:
            problems += compare(case, ours, judge)
        if known is not None and not case.error:
            problems += _against(known, ours, self.base, "ours")
            problems += _against(known, judge, self.base, "judge") if judge is not None else []
        if case.error:
            problems += _refusal(case, ours)
        kind = "BuildKit" if judge is not None else ("expected" if known is not None or case.error else "none")
        if kind == "none":
            problems.append("no judge understands it, and it has no expected tree")
        record = expectation(judge, self.base) if isinstance(judge, Observed) else None
        return Verdict(case, kind, tuple(dict.fromkeys(problems)), accepted().get(case.key, ""), record)


def _locked(host: str) -> IO[str]:
    """Alone with a docker engine: all sessions use the same names there."""
    name = hashlib.sha256(host.encode()).hexdigest()[:12]
    lock = open(Path(tempfile.gettempdir()) / f"boxwright-conformance-{name}.lock", "w", encoding="ascii")  # noqa: SIM115
    fcntl.flock(lock, fcntl.LOCK_EX)
    return lock


def _layer_of(archive: Path) -> Lines:
    with tarfile.open(archive) as tar:
        return read_tree(tar.extractfile("layer.tar") or archive)


def compare(case: Case, ours: Outcome, judge: Outcome) -> list[str]:
    """What differs between the two."""
    if isinstance(ours, Refused) and isinstance(judge, Refused):
        return [] if case.error else [f"both refuse: ours {ours.said}; judge {judge.said}"]
    if isinstance(ours, Refused):
        return [f"ours refuses: {ours.said}"]
    if isinstance(judge, Refused):
        return [f"judge refuses: {judge.said}"]
    return differences(ours, judge)


def _refusal(case: Case, ours: Outcome) -> list[str]:
    if not isinstance(ours, Refused):
        return ["ours builds what must be refused"]
    if ours.code in UNFINISHED or CRASHED in ours.said or not ours.code:
        return [f"ours fails for another reason: {ours.said}"]
    if isinstance(case.error, str) and ours.code != case.error:
        return [f"expected the error {case.error}: {ours.said}"]
    return []


def _against(known: Mapping[str, Any], outcome: Outcome, base: Lines, who: str) -> list[str]:
    if isinstance(outcome, Refused):
        return [f"{who} refuses: {outcome.said}"]
    return [f"{who}, {line}" for line in differences_from(known, outcome, base)]


def run_all(session: Session, cases: Sequence[Case], jobs: int, tell: Callable[[Verdict], None]) -> list[Verdict]:
    """Judge many, `jobs` at a time; `tell` hears of each as it ends. In the order of `cases`."""

    def one(case: Case) -> Verdict:
        try:
            verdict = session.run(case)
        except Exception:  # noqa: BLE001 - one case that can't be judged must not stop the others
            verdict = Verdict(case, "none", (traceback.format_exc(),))
        tell(verdict)
        return verdict

    with ThreadPoolExecutor(jobs) as pool:
        return list(pool.map(one, cases))


def stale(verdicts: Iterable[Verdict]) -> list[str]:
    """Accepted differences that are none any more."""
    return [verdict.case.key for verdict in verdicts if verdict.reason and not verdict.problems]


def default_jobs() -> int:
    """A build on each side keeps a processor busy."""
    return max(2, os.cpu_count() or 2)
