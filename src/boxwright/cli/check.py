"""Check a recipe for what is allowed but seldom meant. Status 1 where a finding is an error, else 0."""

from __future__ import annotations

import argparse
import sys

from boxwright.app.check import Checked
from boxwright.cli.console import say
from boxwright.frontends.recipe.checks.finding import Finding

SARIF = "https://json.schemastore.org/sarif-2.1.0.json"


def configure(parser: argparse.ArgumentParser) -> None:
    """The options of `check`."""
    add = parser.add_argument
    add("directory", nargs="?", default=".", metavar="CONTEXT", help="the build context (default: .)")
    add("-f", "--file", help="the recipe; - reads it from standard input")
    add("--skip", action="append", default=[], metavar="RULE", help="leave a rule out, or all; repeatable")
    add("--enable", action="append", default=[], metavar="RULE", help="ask for a rule that is off; repeatable")
    add("--error", action="store_true", help="any finding is an error")
    add("--format", choices=("text", "json", "sarif"), default="text")
    add("--list", action="store_true", help="list the rules")


def run(options: argparse.Namespace) -> int:
    """Check."""
    from boxwright.app.check import check
    from boxwright.frontends.recipe.checks.rules import RULES, Choice

    if options.list:
        for rule in RULES:
            say(f"{rule.name:<32} {rule.summary}{' (off unless asked for)' if rule.asked else ''}")
        return 0
    from_input = options.file == "-"
    asked = Choice(frozenset(options.skip), frozenset(options.enable), options.error)
    text = sys.stdin.read() if from_input else None
    checked = check(options.directory, None if from_input else options.file, text, asked)
    if options.format == "text":
        _print_text(checked)
    else:
        import json

        shown = _json(checked) if options.format == "json" else _sarif(checked)
        say(json.dumps(shown, indent=2))
    return 1 if checked.failed else 0


def _print_text(checked: Checked) -> None:
    from boxwright.cli.steptext import clean

    lines = checked.text.split("\n")
    for finding in checked.findings:
        span = finding.span
        say(f"{span}: {finding.severity}: {clean(finding.message)} ({finding.rule})")
        last = max(span.line, span.end_line)
        for number in range(span.line, min(last, span.line + 4) + 1):
            say(f"  {number:>4} | {clean(lines[number - 1])}".rstrip())
        if last > span.line + 4:
            say("       | ...")
        if finding.hint:
            say(f"  hint: {clean(finding.hint)}")
    say(f"{_count(checked, 'error')} errors, {_count(checked, 'warning')} warnings")


def _count(checked: Checked, severity: str) -> int:
    return sum(finding.severity == severity for finding in checked.findings)


def _json(checked: Checked) -> dict[str, object]:
    return {
        "file": checked.file,
        "errors": _count(checked, "error"),
        "warnings": _count(checked, "warning"),
        "failed": checked.failed,
        "findings": [
            {
                "rule": finding.rule,
                "severity": finding.severity,
                "message": finding.message,
                "hint": finding.hint,
                "line": finding.span.line,
                "column": finding.span.column,
                "end_line": max(finding.span.line, finding.span.end_line),
            }
            for finding in checked.findings
        ],
    }


def _sarif(checked: Checked) -> dict[str, object]:
    """SARIF 2.1.0 (OASIS)."""
    from boxwright import __version__
    from boxwright.frontends.recipe.checks.rules import RULES

    rules = [{"id": rule.name, "shortDescription": {"text": rule.summary}} for rule in RULES]
    driver = {"name": "boxwright", "version": __version__, "rules": rules}
    results = [_sarif_result(finding) for finding in checked.findings]
    return {"$schema": SARIF, "version": "2.1.0", "runs": [{"tool": {"driver": driver}, "results": results}]}


def _sarif_result(finding: Finding) -> dict[str, object]:
    span = finding.span
    region = {"startLine": span.line, "startColumn": span.column, "endLine": max(span.line, span.end_line)}
    text = f"{finding.message} (hint: {finding.hint})" if finding.hint else finding.message
    place = {"artifactLocation": {"uri": span.file.removeprefix("./")}, "region": region}
    return {
        "ruleId": finding.rule,
        "level": finding.severity,
        "message": {"text": text},
        "locations": [{"physicalLocation": place}],
    }
