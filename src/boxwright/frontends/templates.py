"""Jinja2 for definitions: a sandbox with limits, and errors that name the template's line."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import BuiltinFunctionType, FunctionType, GeneratorType, MethodType
from typing import TYPE_CHECKING, Any, Final, NoReturn

from boxwright.errors import BoxwrightError, DefinitionError
from boxwright.frontends.package.problem import nearest
from boxwright.model.span import Span

if TYPE_CHECKING:
    from types import TracebackType

    from jinja2 import Undefined
    from jinja2.sandbox import SandboxedEnvironment

MARKS: Final = ("{{", "{%", "{#")
FILE: Final = "<template>"
LARGEST: Final = 16 << 20
"""Of what a template may give, and of what a multiplication in it may."""

MOST_BITS: Final = 4096
MOST_MEMORY: Final = 512 << 20
"""What rendering one template may take more than what this process has."""

MOST_SECONDS = 5.0
"""Of processor time, for one template."""

_ADDRESS: Final = re.compile(r" at 0x[0-9a-f]{6,}>")
_FLEETING: Final = (FunctionType, BuiltinFunctionType, MethodType, GeneratorType)
NO_TEXT: Final = "the template gives half a character (a surrogate)"
TOO_LONG: Final = "the template takes too much time"
TOO_LARGE: Final = "the template needs too much memory"
OR_DEFAULT: Final = "`| default(...)` says what is taken where there is none"

Wrong = Callable[..., DefinitionError]


def has_marks(text: str) -> bool:
    """Whether there is anything to render in a text."""
    return any(mark in text for mark in MARKS)


def make_environment(undefined: type[Undefined] | None = None) -> SandboxedEnvironment:
    """The sandbox. Without `undefined` a name that nobody defined is an error."""
    from jinja2 import StrictUndefined
    from jinja2.exceptions import SecurityError
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Sandbox(ImmutableSandboxedEnvironment):
        """Multiplication and powers give nothing huge."""

        intercepted_binops = frozenset(("*", "**"))

        def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:  # noqa: ANN401 - as Jinja2's
            sizes = [len(it) if isinstance(it, str | bytes | list | tuple) else None for it in (left, right)]
            whole = isinstance(left, int) and isinstance(right, int)
            if operator == "**" and whole and left.bit_length() * abs(right) > MOST_BITS:
                raise SecurityError("the power is too large")
            length = sizes[0] if sizes[0] is not None else sizes[1]
            count = right if sizes[0] is not None else left
            if operator == "*" and length is not None and isinstance(count, int) and length * count > LARGEST:
                raise SecurityError("the product is too large")
            return super().call_binop(context, operator, left, right)

    environment = Sandbox(
        undefined=undefined or StrictUndefined, keep_trailing_newline=True, autoescape=False, finalize=_same_each_time
    )
    del environment.globals["lipsum"], environment.filters["random"]
    return environment


def _same_each_time(value: object) -> object:
    """What an expression gives. Raises SecurityError where its text is another one in each run."""
    from jinja2.exceptions import SecurityError

    if _is_fleeting(value):
        raise SecurityError("this has no text of its own, only a place in memory (`| list` gives what is gone through)")
    return value


def _is_fleeting(value: object) -> bool:
    """Whether the text of a value has a place in this process's memory."""
    if isinstance(value, str):
        return " at 0x" in value and _ADDRESS.search(value) is not None
    if isinstance(value, dict):
        return any(_is_fleeting(item) for pair in value.items() for item in pair)
    if isinstance(value, list | tuple):
        return any(map(_is_fleeting, value))
    own = type(value)
    return isinstance(value, _FLEETING) or (own.__repr__ is object.__repr__ and own.__str__ is object.__str__)


def limited(pieces: Iterable[str]) -> str:
    """What a template gives. Raises SecurityError where that is more than LARGEST characters, and ValueError."""
    from jinja2.exceptions import SecurityError

    kept: list[str] = []
    size = 0
    for piece in pieces:
        kept.append(piece)
        size += len(piece)
        if size > LARGEST:
            raise SecurityError(f"the template gives more than {LARGEST >> 20} MiB")
    text = "".join(kept)
    text.encode()  # an escape in a template may make what is no text
    return text


class TooLongError(BaseException):
    """A template took more than MOST_SECONDS. Jinja2, which takes any Exception for "no constant", lets it through."""


@contextmanager
def bounded() -> Iterator[None]:
    """Limits of memory and time for what is rendered here. Raises MemoryError, TooLongError.

    Limits are the whole process's, so that they hold in its first thread alone.
    """
    import resource
    import signal
    import threading

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    most = _memory_in_use() + MOST_MEMORY
    handler = signal.signal(signal.SIGVTALRM, _too_long)
    before = signal.setitimer(signal.ITIMER_VIRTUAL, MOST_SECONDS)
    try:
        if soft in (resource.RLIM_INFINITY, -1) or most < soft:
            resource.setrlimit(resource.RLIMIT_AS, (most, hard))
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, *before)
        signal.signal(signal.SIGVTALRM, handler)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def _too_long(_number: int, _frame: object) -> NoReturn:
    raise TooLongError


def _memory_in_use() -> int:
    """Bytes of address space (proc(5), statm)."""
    import resource

    with open("/proc/self/statm", "rb") as file:
        return int(file.read().split()[0]) * resource.getpagesize()


@contextmanager
def explained(where: Span, names: Iterable[str], wrong: Wrong, hint: str = "") -> Iterator[None]:
    """Errors of a template as ``AREA.template`` and ``AREA.undefined``, with the line; its first is that of `where`.

    `names` are those that are defined; `hint` is given where none of them is near.
    """
    from jinja2 import TemplateSyntaxError, UndefinedError

    def fail(code: str, message: str, line: int, more: str, error: BaseException) -> NoReturn:
        raise wrong(code, message, where._replace(line=where.line + line - 1), hint=more) from error

    try:
        with bounded():
            yield
    except DefinitionError as error:
        error.where = error.where or where._replace(line=where.line + _line_of(error.__traceback__) - 1)
        raise
    except TemplateSyntaxError as error:
        fail("template", f"{error.message}", error.lineno, "", error)
    except UndefinedError as error:
        name = (error.message or "").partition("'")[2].partition("'")[0]
        message = error.message or "undefined name"
        more = nearest(name, names) or hint if message.endswith("is undefined") else OR_DEFAULT
        fail("undefined", message, _line_of(error.__traceback__), more, error)
    except TooLongError as error:
        fail("template", TOO_LONG, _line_of(error.__traceback__), "", error)
    except MemoryError as error:
        fail("template", TOO_LARGE, _line_of(error.__traceback__), "", error)
    except BoxwrightError:
        raise
    except UnicodeEncodeError as error:
        fail("template", NO_TEXT, _line_of(error.__traceback__), "", error)
    except Exception as error:  # noqa: BLE001 - filters raise whatever they like over what they are given
        fail("template", str(error) or type(error).__name__, _line_of(error.__traceback__), "", error)


def _line_of(trace: TracebackType | None) -> int:
    """The template's line at which it went wrong: Jinja2 puts it into the traceback."""
    line = 1
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == FILE:
            line = trace.tb_lineno
        trace = trace.tb_next
    return line
