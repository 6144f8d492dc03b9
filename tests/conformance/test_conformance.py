"""A sample of the conformance suite, one case for each instruction, and what the data files must hold."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest

from tests.conformance.cases import Case, accepted, load_cases, recorded
from tests.conformance.running import Session
from tests.conformance.table import PAGE, expected_rows, shown_rows

CASES = load_cases()
SAMPLE = [case for case in CASES if case.sample]
INSTRUCTIONS = [
    "add",
    "arg",
    "cmd",
    "copy",
    "entrypoint",
    "env",
    "expose",
    "from",
    "healthcheck",
    "label",
    "maintainer",
    "onbuild",
    "run",
    "shell",
    "stopsignal",
    "user",
    "volume",
    "workdir",
]


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    work = tmp_path_factory.mktemp("conformance")
    with Session(work) as made:
        yield made
    shutil.rmtree(work, ignore_errors=True)


def test_the_sample_has_each_instruction() -> None:
    assert {case.instruction for case in SAMPLE} >= set(INSTRUCTIONS)


def test_there_are_enough_cases() -> None:
    assert len(CASES) >= 250


def test_cases_named_elsewhere_exist() -> None:
    names = {case.key for case in CASES}
    assert set(accepted()) <= names
    assert set(recorded()) <= names


def test_an_old_judge_leaves_no_case_without_one() -> None:
    """What docker.io 20.10 doesn't understand has an expected tree, or must be refused."""
    lacking = [
        case.key
        for case in CASES
        if case.needs != "1.2" and not case.error and case.expect is None and case.key not in recorded()
    ]
    assert lacking == []


def test_the_page_shows_these_cases() -> None:
    """`make conformance` writes the table; a new case is in it only after all cases were run."""
    shown = shown_rows(PAGE.read_text(encoding="utf-8"))
    shown.pop(("all", ""))
    assert {key: number for key, (number, _) in shown.items()} == expected_rows()
    assert not [key for key, (_, result) in shown.items() if "differ" in result]


@pytest.mark.integration
@pytest.mark.engine("docker")
@pytest.mark.parametrize("case", SAMPLE, ids=lambda case: case.slug)
def test_sample(session: Session, case: Case) -> None:
    verdict = session.run(case)
    assert verdict.result in {"agree", "accepted"}, "\n".join(verdict.problems)
