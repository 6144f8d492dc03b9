"""Values in Jinja2: the sandboxed environment, names that nobody defined are errors at their line."""

from __future__ import annotations

from collections.abc import Mapping as Map
from typing import TYPE_CHECKING, TypeAlias

from boxwright.frontends.container.problem import wrong
from boxwright.frontends.package.document import Mapping, Scalar, Sequence, Value
from boxwright.frontends.templates import explained, has_marks, limited, make_environment
from boxwright.model.span import Span

if TYPE_CHECKING:
    from jinja2.sandbox import SandboxedEnvironment

Variable: TypeAlias = str | tuple[str, ...]


class Templates:
    """Renders text with the variables that are set so far."""

    def __init__(self, variables: Map[str, Variable] | None = None) -> None:
        self.variables: dict[str, Variable] = dict(variables or {})
        self._environment: SandboxedEnvironment | None = None

    def value(self, value: Value) -> Value:
        """A value with every text in it rendered; keys stay as they are."""
        if isinstance(value, Scalar):
            if not has_marks(value.text):
                return value
            first = value.place.line + (0 if value.plain or _is_one_line(value) else 1)
            return value._replace(text=self.text(value.text, value.place.file, first, value.place.column), plain=False)
        if isinstance(value, Sequence):
            return value._replace(items=tuple(self.value(item) for item in value.items))
        return Mapping({key: self.value(item) for key, item in value.items.items()}, value.place, value.keys)

    def text(self, text: str, file: str, first: int = 1, column: int = 1) -> str:
        """A text whose first line is line `first` of `file`. Raises `container.template` or `container.undefined`."""
        if not has_marks(text):
            return text
        with explained(Span(file, first, column), self.variables, wrong, "set it with a task `vars:` above"):
            return limited(self._jinja().from_string(text).generate(self.variables))

    def _jinja(self) -> SandboxedEnvironment:
        if self._environment is None:
            self._environment = make_environment()
        return self._environment


def _is_one_line(value: Scalar) -> bool:
    return "\n" not in value.text
