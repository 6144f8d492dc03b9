"""Rules on how instructions are written."""

from __future__ import annotations

from collections.abc import Iterator

from boxwright.frontends.recipe.arguments import exec_form, quoted_words
from boxwright.frontends.recipe.checks.facts import Facts, arg_names
from boxwright.frontends.recipe.checks.finding import Found
from boxwright.frontends.recipe.stages import VALIDATE
from boxwright.model.span import Span

ONCE = ("CMD", "ENTRYPOINT", "HEALTHCHECK")


def empty_continuation(facts: Facts) -> Iterator[Found]:
    """Empty lines inside an instruction."""
    for item in facts.recipe.instructions:
        if item.gap:
            span = Span(item.span.file, item.gap, 1, item.gap)
            yield Found(span, f"an empty line inside {item.keyword}", "take it out, or make it a comment")


def legacy_pairs(facts: Facts) -> Iterator[Found]:
    """``ENV NAME VALUE``."""
    for item in facts.recipe.instructions:
        if item.keyword in {"ENV", "LABEL"}:
            words = quoted_words(item.rest, facts.recipe.escape)
            if words and "=" not in words[0]:
                yield Found(item.span, f"the old form of {item.keyword}", f"{item.keyword} {words[0]}=VALUE")


def shell_form(facts: Facts) -> Iterator[Found]:
    """A shell stands between the engine and the program, and takes its signals."""
    for stage in facts.stages:
        has_shell = any(item.keyword == "SHELL" for other in stage.ancestors()[1:] for item in other.instructions)
        for item in stage.instructions:
            has_shell = has_shell or item.keyword == "SHELL"
            if item.keyword in {"CMD", "ENTRYPOINT"} and not has_shell and exec_form(item.rest) is None:
                message = f"{item.keyword} in shell form: the program doesn't get the signals that stop a container"
                yield Found(item.span, message, f'{item.keyword} ["PROGRAM", "ARGUMENT"], or choose a SHELL')


def maintainer(facts: Facts) -> Iterator[Found]:
    """MAINTAINER."""
    for item in facts.recipe.instructions:
        if item.keyword == "MAINTAINER":
            hint = "LABEL org.opencontainers.image.authors=..."
            yield Found(item.span, "MAINTAINER is deprecated", hint)


def multiple(facts: Facts) -> Iterator[Found]:
    """Of these the last one counts."""
    for stage in facts.stages:
        for keyword in ONCE:
            for item in [item for item in stage.instructions if item.keyword == keyword][:-1]:
                yield Found(item.span, f"another {keyword} below replaces this one", "leave one of them out")


def expose_format(facts: Facts) -> Iterator[Found]:
    """EXPOSE knows no ports of the host."""
    for item in facts.recipe.instructions:
        if item.keyword == "EXPOSE":
            for word in item.rest.split():
                if ":" in word and "$" not in word:
                    message = f"EXPOSE publishes nothing: '{word}' names an address or a port of the host"
                    yield Found(item.span, message, f"EXPOSE {word.rpartition(':')[2]}")


def description(facts: Facts) -> Iterator[Found]:
    """A comment directly above FROM or ARG describes it, and begins with its name."""
    for item in facts.recipe.instructions:
        if item.keyword not in {"FROM", "ARG"} or not item.above or item.above[-1] == VALIDATE:
            continue
        words = item.rest.split()
        names = [words[2]] if item.keyword == "FROM" and len(words) == 3 else []
        names = arg_names(item, facts) if item.keyword == "ARG" else names
        if names and item.above[0].split(maxsplit=1)[:1] != names[:1]:
            span = Span(item.span.file, item.span.line - len(item.above), 1, item.span.line - 1)
            message = f"this comment doesn't describe '{names[0]}'"
            yield Found(span, message, f"# {names[0]} ..., or an empty line between")
