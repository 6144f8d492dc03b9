"""The table of instruction x feature x result, and its place in docs/dockerfile.md."""

from __future__ import annotations

from collections.abc import Sequence

from tests.conformance.cases import HERE, Case, load_cases
from tests.conformance.running import Verdict

PAGE = HERE.parents[1] / "docs" / "dockerfile.md"
BEGIN = "<!-- conformance: written by `make conformance` -->"
END = "<!-- conformance: end -->"
HEAD = "| instruction | feature | cases | result |\n| --- | --- | --- | --- |\n"


def rows(cases: Sequence[Case]) -> dict[tuple[str, str], list[Case]]:
    """The cases of each row."""
    found: dict[tuple[str, str], list[Case]] = {}
    for case in cases:
        found.setdefault((case.instruction, case.feature), []).append(case)
    return found


def section(verdicts: Sequence[Verdict]) -> str:
    """The table, and the accepted differences one by one."""
    by_key = {verdict.case.key: verdict for verdict in verdicts}
    lines = [
        f"| {instruction} | {feature} | {len(cases)} | {_result([by_key[case.key] for case in cases])} |"
        for (instruction, feature), cases in rows([verdict.case for verdict in verdicts]).items()
    ]
    text = HEAD + "\n".join(lines) + f"\n| all | | {len(verdicts)} | {_result(verdicts)} |\n"
    known = [verdict for verdict in verdicts if verdict.result == "accepted"]
    if known:
        text += "\nAccepted, one by one:\n\n" + "".join(f"- `{item.case.key}`: {item.reason}\n" for item in known)
    return text


def _result(verdicts: Sequence[Verdict]) -> str:
    words = [verdict.result for verdict in verdicts]
    parts = [f"{words.count(word)} {word}" for word in ("agree", "accepted", "differ") if word in words]
    return "agree" if set(words) == {"agree"} else ", ".join(parts)


def with_section(page: str, verdicts: Sequence[Verdict]) -> str:
    """The page with its table replaced."""
    before, _, rest = page.partition(BEGIN)
    after = rest.partition(END)[2]
    return f"{before}{BEGIN}\n\n{section(verdicts)}\n{END}{after}"


def shown_rows(page: str) -> dict[tuple[str, str], tuple[int, str]]:
    """The rows that the page shows: how many cases, and their result."""
    text = page.partition(BEGIN)[2].partition(END)[0]
    cells = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")
    ]
    return {(row[0], row[1]): (int(row[2]), row[3]) for row in cells if len(row) == 4 and row[2].isdigit()}


def expected_rows() -> dict[tuple[str, str], int]:
    """The rows that the data files make, and the number of their cases."""
    return {key: len(cases) for key, cases in rows(load_cases()).items()}
