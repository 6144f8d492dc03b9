"""Values in Jinja2: the sandboxed environment, names that nobody defined are errors at their line."""

from __future__ import annotations

from collections.abc import Mapping as Map
from typing import TYPE_CHECKING, TypeAlias

from boxwright.frontends.container.problem import wrong
from boxwright.frontends.package.document import Mapping, Scalar, Sequence, Value
from boxwright.frontends.package.problem import nearest
from boxwright.model.span import Span

if TYPE_CHECKING:
    from types import TracebackType

    from jinja2.sandbox import SandboxedEnvironment

Variable: TypeAlias = str | tuple[str, ...]
MARKS = ("{{", "{%", "{#")


class Templates:
    """Renders text with the variables that are set so far."""

    def __init__(self, variables: Map[str, Variable] | None = None) -> None:
        self.variables: dict[str, Variable] = dict(variables or {})
        self._environment: SandboxedEnvironment | None = None

    def value(self, value: Value) -> Value:
        """A value with every text in it rendered; keys stay as they are."""
        if isinstance(value, Scalar):
            if not _has_marks(value.text):
                return value
            first = value.place.line + (0 if value.plain or _is_one_line(value) else 1)
            return value._replace(text=self.text(value.text, value.place.file, first, value.place.column), plain=False)
        if isinstance(value, Sequence):
            return value._replace(items=tuple(self.value(item) for item in value.items))
        return Mapping({key: self.value(item) for key, item in value.items.items()}, value.place, value.keys)

    def text(self, text: str, file: str, first: int = 1, column: int = 1) -> str:
        """A text whose first line is line `first` of `file`. Raises `container.template` or `container.undefined`."""
        if not _has_marks(text):
            return text
        from jinja2 import TemplateError, TemplateSyntaxError, UndefinedError
        from jinja2.exceptions import SecurityError

        try:
            return self._jinja().from_string(text).render(self.variables)
        except TemplateSyntaxError as error:
            raise wrong("template", f"{error.message}", Span(file, first + error.lineno - 1, column)) from error
        except UndefinedError as error:
            where = Span(file, first + _line_of(error.__traceback__) - 1, column)
            name = (error.message or "").partition("'")[2].partition("'")[0]
            hint = nearest(name, self.variables) or "set it with a task `vars:` above"
            raise wrong("undefined", error.message or "undefined name", where, hint=hint) from error
        except (TemplateError, SecurityError, ArithmeticError, TypeError, ValueError, LookupError) as error:
            where = Span(file, first + _line_of(error.__traceback__) - 1, column)
            raise wrong("template", str(error) or type(error).__name__, where) from error

    def _jinja(self) -> SandboxedEnvironment:
        if self._environment is None:
            from jinja2 import StrictUndefined
            from jinja2.sandbox import ImmutableSandboxedEnvironment

            self._environment = ImmutableSandboxedEnvironment(
                undefined=StrictUndefined, keep_trailing_newline=True, autoescape=False
            )
        return self._environment


def _has_marks(text: str) -> bool:
    return any(mark in text for mark in MARKS)


def _is_one_line(value: Scalar) -> bool:
    return "\n" not in value.text


def _line_of(trace: TracebackType | None) -> int:
    """The template's line at which it went wrong: Jinja2 puts it into the traceback."""
    line = 1
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == "<template>":
            line = trace.tb_lineno
        trace = trace.tb_next
    return line
