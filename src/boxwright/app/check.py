"""Checks of a recipe: its text, its context's .dockerignore, and what is known of its bases without asking anyone."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import NamedTuple

from boxwright.app.definitions import find_definition, read_definition
from boxwright.errors import BoxwrightError, DefinitionError
from boxwright.frontends.recipe.checks.facts import Facts
from boxwright.frontends.recipe.checks.finding import Finding
from boxwright.frontends.recipe.checks.rules import (
    Choice,
    broken,
    check_names,
    choice_of,
    directive_span,
    findings_of,
    unknown_names,
)
from boxwright.frontends.recipe.options import RecipeOptions
from boxwright.frontends.recipe.parser import parse
from boxwright.frontends.recipe.stages import find_stages, needed
from boxwright.sources.ignore import IgnoreRules
from boxwright.sources.reference import classify


class Checked(NamedTuple):
    """The findings by line; `failed` says that one is an error, or that any shall be one and there is one.

    `strict`: the recipe itself wants that.
    """

    file: str
    text: str
    findings: tuple[Finding, ...]
    failed: bool
    strict: bool = False


def check(directory: str, file: str | None = None, text: str | None = None, asked: Choice | None = None) -> Checked:
    """Check the recipe of a directory. `asked` is what the command line switches, beside the recipe's own directive.

    Raises UsageError where there is no such file or rule.
    """
    asked = asked or Choice()
    check_names(asked.skip | asked.ask)
    found = find_definition(directory, file) if text is None else "-"
    text = read_definition(found) if text is None else text
    return check_text(text, found, _ignored(directory, found), asked)


def check_text(text: str, file: str, ignored: Callable[[str], bool] | None, asked: Choice) -> Checked:
    """The same for a text that was read."""
    try:
        recipe = parse(text, file)
        where = directive_span(recipe, text, file)
        own = choice_of(dict(recipe.directives).get("check", ""), where)
    except DefinitionError as error:
        return Checked(file, text, (broken(error, file),), failed=True)
    choice = Choice(own.skip | asked.skip, own.ask | asked.ask, own.is_error or asked.is_error)
    findings = unknown_names(own, where) + findings_of(Facts(recipe, file, _base_names, ignored), choice)
    try:
        stages = find_stages(recipe, file, RecipeOptions())
        for stage in stages.stages:
            needed(stages, stage.number)
    except DefinitionError as error:
        if not any(finding.severity == "error" for finding in findings):
            findings.append(broken(error, file))
    failed = any(finding.severity == "error" for finding in findings) or (choice.is_error and bool(findings))
    return Checked(file, text, tuple(findings), failed, own.is_error)


def refuse_findings(directory: str, file: str, text: str) -> None:
    """Raise BoxwrightError `check.failed` where a recipe that wants findings to be errors has some."""
    checked = check_text(text, file, _ignored(directory, file), Choice())
    if checked.failed and checked.strict:
        first = checked.findings[0]
        more = f", and {len(checked.findings) - 1} more" if len(checked.findings) > 1 else ""
        message = f"{first.rule}: {first.message}{more}"
        raise BoxwrightError("check.failed", message, hint="'boxwright check' shows them all", where=first.span)


def _ignored(directory: str, file: str) -> Callable[[str], bool] | None:
    for path in (f"{file}.dockerignore", os.path.join(directory, ".dockerignore")):
        if os.path.isfile(path):
            with open(path, encoding="utf-8", errors="surrogateescape") as text:
                return IgnoreRules.parse(text.read(), path).ignored
    return None


def _base_names(name: str) -> frozenset[str] | None:
    """The names in a base's environment, where its spelling says them."""
    try:
        source = classify(name).source
    except BoxwrightError:
        return None
    return frozenset({"PATH"}) if source in {"bootstrap", "tar", "scratch"} else None
