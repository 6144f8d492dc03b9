"""Manifests as templates: text and, for each of its lines, the template's line that it comes from."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from boxwright.frontends.manifest.problem import wrong
from boxwright.frontends.templates import (
    FILE,
    TOO_LONG,
    TooLongError,
    bounded,
    explained,
    has_marks,
    limited,
    make_environment,
)
from boxwright.model.span import Span

if TYPE_CHECKING:
    from jinja2 import Undefined, nodes
    from jinja2.sandbox import SandboxedEnvironment

# Noncharacters of Unicode: no text that is exchanged holds them (Unicode, section 23.7).
_OPEN, _CLOSE = "\ufdd0", "\ufdd1"
_MARK = re.compile(f"{_OPEN}(\\d+){_CLOSE}")
HINT = "set it under `vars:` or with --set NAME=VALUE"


class Rendered(NamedTuple):
    """`lines` says for each line of `text`, from the first, which line of the template it comes from."""

    text: str
    lines: tuple[int, ...]


class Renderer:
    """Renders with one set of names. `variable` is what ``env()`` asks."""

    def __init__(self, names: Mapping[str, object], variable: Callable[[str], str | None]) -> None:
        self.names = dict(names)
        self._variable = variable
        self._strict: SandboxedEnvironment | None = None

    def manifest(self, text: str, file: str) -> Rendered:
        """A manifest's text. Raises `manifest.template`, `manifest.undefined`, `manifest.env`."""
        if not has_marks(text):
            return Rendered(text, ())
        with explained(Span(file, 1), self.names, wrong, HINT):
            return rendered_with_lines(self._environment(), text, self.names)

    def text(self, text: str, file: str) -> str:
        """Any template."""
        if not has_marks(text):
            return text
        with explained(Span(file, 1), self.names, wrong, HINT):
            return limited(self._environment().from_string(text).generate(self.names))

    def condition(self, expression: str, where: Span) -> bool:
        """Whether what a ``when:`` says is so."""
        with explained(where, self.names, wrong, HINT):
            template = self._environment().from_string(f"{{% if {expression} %}}1{{% endif %}}")
            return bool(template.render(self.names))

    def _environment(self) -> SandboxedEnvironment:
        if self._strict is None:
            self._strict = make_environment()
            self._strict.globals["env"] = self._env
            self._strict.filters["from_yaml"] = from_yaml
        return self._strict

    def _env(self, name: str, default: str | None = None) -> str:
        found = self._variable(name)
        if found is None and default is None:
            message = f"env({name!r}): the environment has no such variable"
            raise wrong("env", message, None, hint="set it, or give a default: env(NAME, DEFAULT)")
        return default or "" if found is None else found


def from_yaml(text: str) -> object:
    """YAML in a text, its scalars as they were written."""
    from boxwright.frontends.package.document import parse_value, plain

    value = parse_value(text, "(from_yaml)")
    return None if value is None else plain(value)


def used_names(text: str) -> frozenset[str]:
    """The names that a template uses and doesn't set itself; none where it is no template."""
    if not has_marks(text):
        return frozenset()
    from jinja2 import TemplateError, meta

    try:
        with bounded():
            return frozenset(meta.find_undeclared_variables(make_environment().parse(text)))
    except TooLongError as error:
        raise wrong("template", TOO_LONG, None) from error
    except (TemplateError, RecursionError):
        return frozenset()


def probed(text: str, names: Mapping[str, object], variable: Callable[[str], str | None]) -> str:
    """The text with everything that is not known yet left empty; the template itself where that can't be done."""
    if not has_marks(text):
        return text
    from jinja2.exceptions import SecurityError, TemplateError

    environment = make_environment(_unknown())
    environment.globals["env"] = lambda name, default="": variable(name) or default
    environment.filters["from_yaml"] = from_yaml
    try:
        with bounded():
            return limited(environment.from_string(text).generate(dict(names)))
    except TooLongError as error:
        raise wrong("template", TOO_LONG, None) from error
    except (TemplateError, SecurityError, ArithmeticError, TypeError, ValueError, LookupError):
        return text
    except (RecursionError, MemoryError):
        return text  # the strict reading says so


def _unknown() -> type[Undefined]:
    """What is not known yet: whatever is done with it gives nothing."""
    from jinja2 import ChainableUndefined

    def same(self: Undefined, *_given: Any, **_named: Any) -> Undefined:  # noqa: ANN401 - any operand
        return self

    def no(_self: Undefined, *_given: Any) -> bool:  # noqa: ANN401 - any operand
        return False

    arithmetic = ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow")
    operators = [f"__{prefix}{name}__" for name in arithmetic for prefix in ("", "r")]
    members: dict[str, object] = dict.fromkeys((*operators, "__neg__", "__pos__", "__call__"), same)
    members |= dict.fromkeys(("__lt__", "__le__", "__gt__", "__ge__", "__contains__"), no)
    members |= {"__int__": lambda _self: 0, "__float__": lambda _self: 0.0}
    return type("Unknown", (ChainableUndefined,), members)


def rendered_with_lines(environment: SandboxedEnvironment, text: str, names: Mapping[str, object]) -> Rendered:
    """Render with a mark at the begin of every line that the template writes, and take the marks out again."""
    from jinja2 import Template

    tree = environment.parse(text)
    _mark(tree)
    code = environment.compile(tree, filename=FILE)
    template = Template.from_code(environment, code, environment.make_globals(None))
    marked = limited(template.generate(dict(names)))
    lines: list[int] = []
    kept: list[str] = []
    current = 1
    for line in marked.split("\n"):
        found = _MARK.search(line)
        if found is not None:
            current = int(found[1])
        lines.append(current)
        kept.append(_MARK.sub("", line))
        for later in _MARK.finditer(line):
            current = int(later[1])
    return Rendered("\n".join(kept), tuple(lines))


def _mark(node: nodes.Node) -> None:
    """Mark the begins of lines, but in what becomes a value and may be compared or changed."""
    from jinja2 import nodes

    if isinstance(node, nodes.Macro | nodes.CallBlock | nodes.FilterBlock | nodes.AssignBlock):
        return
    if isinstance(node, nodes.TemplateData):
        parts = node.data.split("\n")
        marked = [f"{_OPEN}{node.lineno + number}{_CLOSE}{part}" for number, part in enumerate(parts)]
        node.data = "\n".join(marked)
        return
    for child in node.iter_child_nodes():
        _mark(child)
