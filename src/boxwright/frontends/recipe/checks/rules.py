"""The table of rules, and which of them a recipe is checked with."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

from boxwright.errors import DefinitionError, UsageError
from boxwright.frontends.recipe.checks import casing, commands, forms, stages, variables
from boxwright.frontends.recipe.checks.facts import Facts
from boxwright.frontends.recipe.checks.finding import Finding, Found, Rule
from boxwright.frontends.recipe.keywords import BOOLEANS
from boxwright.frontends.recipe.problem import nearest, wrong
from boxwright.frontends.recipe.syntax import Recipe
from boxwright.model.span import Span

ALL = "all"
BROKEN = "InvalidRecipe"
UNKNOWN = "UnknownRule"
"""What is found wrong in any case: a recipe that can't be built, and a rule's name that is none."""

RULES: Sequence[Rule] = (
    Rule("StageNameCasing", "names of stages are in small letters", casing.stage_name),
    Rule("FromAsCasing", "AS is written as FROM is", casing.from_as),
    Rule("NoEmptyContinuation", "no empty lines inside an instruction", forms.empty_continuation),
    Rule("ConsistentInstructionCasing", "keywords are all in capitals or all in small letters", casing.instruction),
    Rule("DuplicateStageName", "names of stages are unique", stages.duplicate_name),
    Rule("ReservedStageName", "no stage is named scratch or context", stages.reserved_name),
    Rule("JSONArgsRecommended", "CMD and ENTRYPOINT are in exec form, so that signals arrive", forms.shell_form),
    Rule("MaintainerDeprecated", "a label instead of MAINTAINER", forms.maintainer),
    Rule("UndefinedArgInFrom", "variables of FROM are declared before the first FROM", variables.undefined_in_from),
    Rule("WorkdirRelativePath", "the first WORKDIR is absolute", commands.relative_workdir),
    Rule("UndefinedVar", "variables are defined before they are used", variables.undefined),
    Rule("MultipleInstructionsDisallowed", "one CMD, ENTRYPOINT and HEALTHCHECK for each stage", forms.multiple),
    Rule("LegacyKeyValueFormat", "ENV and LABEL with an equals sign", forms.legacy_pairs),
    Rule("RedundantTargetPlatform", "no --platform=$TARGETPLATFORM", stages.redundant_platform),
    Rule("SecretsUsedInArgOrEnv", "no secrets in ARG and ENV", variables.secrets),
    Rule("InvalidDefaultArgInFrom", "FROM is right with the defaults of its ARGs", variables.invalid_default),
    Rule("FromPlatformFlagConstDisallowed", "no constant --platform in FROM", stages.constant_platform),
    Rule("CopyIgnoredFile", "COPY takes nothing that .dockerignore leaves out", commands.ignored_file),
    Rule("InvalidDefinitionDescription", "comments above FROM and ARG describe them", forms.description, asked=True),
    Rule("ExposeProtoCasing", "protocols of EXPOSE are in small letters", casing.expose_protocol),
    Rule("ExposeInvalidFormat", "EXPOSE names no address and no port of the host", forms.expose_format),
    Rule("UnusedStage", "the image or a validation needs every stage", stages.unused),
    Rule("AddInsteadOfCopy", "COPY copies files, ADD unpacks and fetches", commands.add_of_files),
    Rule("RunCd", "WORKDIR instead of a RUN that is cd alone", commands.lone_cd),
    Rule("AptUpdateAlone", "apt-get update stands with its install", commands.lone_update),
    Rule("AptAsks", "apt-get install has -y", commands.apt_asks),
)
NAMES = frozenset(rule.name for rule in RULES)


class Choice(NamedTuple):
    """Which rules are off, which are asked for, and whether any finding is an error."""

    skip: frozenset[str] = frozenset()
    ask: frozenset[str] = frozenset()
    is_error: bool = False

    def has(self, rule: Rule) -> bool:
        """Whether the rule is on."""
        if rule.name in self.skip or (ALL in self.skip and rule.name not in self.ask):
            return False
        return not rule.asked or rule.name in self.ask or ALL in self.ask


def choice_of(directive: str, where: Span) -> Choice:
    """What the directive ``check`` asks for: ``skip=A,B;error=true``. Raises DefinitionError."""
    skip: frozenset[str] = frozenset()
    ask: frozenset[str] = frozenset()
    is_error = False
    for part in directive.split(";") if directive else ():
        key, equals, value = (item.strip() for item in part.partition("="))
        names = frozenset(name.strip() for name in value.split(",") if name.strip())
        if key == "skip" and equals:
            skip = names
        elif key == "experimental" and equals:
            ask = names
        elif key == "error" and value.lower() in BOOLEANS:
            is_error = BOOLEANS[value.lower()]
        else:
            hint = "# check=skip=RULE,RULE;error=true"
            raise wrong(f"the directive check doesn't know {part!r}", where, hint=hint)
    return Choice(skip, ask, is_error)


def check_names(names: Collection[str]) -> None:
    """Raise UsageError for a name that no rule has."""
    for name in names:
        if name not in NAMES and name != ALL:
            hint = nearest(name, NAMES) or "'boxwright check --list' lists the rules"
            raise UsageError("check.unknown-rule", f"there is no rule {name!r}", hint=hint)


def unknown_names(choice: Choice, where: Span) -> list[Finding]:
    """Names in the directive that no rule has: they switch nothing."""
    return [
        Finding(UNKNOWN, "warning", f"there is no rule '{name}'", where, nearest(name, NAMES))
        for name in sorted(choice.skip | choice.ask)
        if name not in NAMES and name != ALL
    ]


def findings_of(facts: Facts, choice: Choice) -> list[Finding]:
    """What the rules that are on find, by line."""
    found = [_finding(rule, item) for rule in RULES if choice.has(rule) for item in rule.find(facts)]
    return sorted(found, key=lambda finding: (finding.span.line, finding.span.column, finding.rule))


def _finding(rule: Rule, found: Found) -> Finding:
    return Finding(rule.name, "error" if found.is_error else "warning", found.message, found.span, found.hint)


def broken(error: DefinitionError, file: str) -> Finding:
    """The finding for a recipe that can't be built."""
    where = error.where or Span(file, 1, 1, 1)
    return Finding(BROKEN, "error", f"{error.message} [{error.code}]", where, error.hint)


def directive_span(recipe: Recipe, text: str, file: str) -> Span:
    """Where the directive check stands."""
    lines = text.split("\n")[: len(recipe.directives) + 1]
    number = next((n for n, line in enumerate(lines, 1) if line.lstrip("# \t\ufeff").lower().startswith("check")), 1)
    return Span(file, number, 1, number)
