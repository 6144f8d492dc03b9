"""The prompt of `build -i`, which walks the steps of a definition."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import NamedTuple

from boxwright.app.sandboxes import LateSandbox
from boxwright.app.saving import Saved, save_into, saved_lines
from boxwright.app.shells import open_shell
from boxwright.app.walking import Mark, Walker, history_file
from boxwright.cli.console import complain, note, say
from boxwright.cli.diff import print_changes
from boxwright.cli.excerpt import source_lines
from boxwright.cli.failure import explain_step
from boxwright.cli.lineinput import Lines
from boxwright.cli.progress import Display, step_name
from boxwright.cli.steptext import clean
from boxwright.errors import BoxwrightError, UsageError
from boxwright.events import Event, Message, StepFailed, StepFinished, StepOutput, StepStarted
from boxwright.model.graph import Graph
from boxwright.model.step import Run
from boxwright.ports import Emit
from boxwright.solver import walking
from boxwright.solver.scheduler import Failed
from boxwright.store.store import Store


class Command(NamedTuple):
    """A word of the prompt: other words for it, what follows it, what it does."""

    name: str
    short: str
    arguments: str
    help: str


COMMANDS = (
    Command("list", "l", "", "the steps, and what became of them"),
    Command("run", "r", "[N]", "do the next step, or step N and what it needs"),
    Command("continue", "c", "[N]", "do all that is left, to the end or up to step N"),
    Command("skip", "s", "[N]", "go on without the next step, or step N"),
    Command("retry", "", "", "do the step that failed, or the last one, again"),
    Command("edit", "e", "[N] [TEXT]", "another command for a step; without a text it is edited (-e: in $EDITOR)"),
    Command("restore", "", "N", "have step N as the file has it; what was typed is forgotten"),
    Command("do", "!", "COMMAND", "run a command as a new step before the next one; `save` writes it"),
    Command("shell", "sh", "[N]", "a shell in the state from which a step starts; what you do there is thrown away"),
    Command("back", "b", "[N]", "go back: step N, or the one before, is the next"),
    Command("diff", "d", "[N]", "what the last step, or step N, changed"),
    Command("show", "", "[N]", "a step's place in the file, and all of its command"),
    Command("set", "", "NAME=VALUE", "a variable of the definition (--set, --build-arg); reads the file anew"),
    Command("reload", "", "", "read the file anew; changes stay"),
    Command("save", "", "[-w | FILE]", "print what was changed; -w writes it into the definition, FILE a changed copy"),
    Command("quit", "q", "", "end (Ctrl-D too)"),
    Command("help", "?", "", "this"),
)
WITH_NUMBER = frozenset({"run", "continue", "skip", "edit", "restore", "shell", "back", "diff", "show"})


class WalkDisplay(Display):
    """What a step writes, line by line."""

    def __init__(self, graph: Graph, numbers: Mapping[int, str]) -> None:
        super().__init__(graph)
        self._numbers = numbers

    def output(self, event: StepOutput, lines: list[str]) -> None:
        """Each line."""
        for line in lines:
            note(f"  | {line}")

    def show(self, event: Event) -> None:
        """What begins and ends."""
        match event:
            case StepStarted(position):
                note(f"{self._numbers.get(position, '-')}: {self.name(position)}")
            case StepFinished(_, seconds):
                note(f"  done in {seconds:.2f} s")
            case StepFailed(_, seconds, stopped):
                note(f"  {'stopped' if stopped else 'failed'} after {seconds:.2f} s")
            case Message(level, text):
                note(f"{level}: {clean(text)}")


class Prompt:
    """One session."""

    def __init__(self, walker: Walker, store: Store, *, again: bool) -> None:
        self._walker = walker
        self._store = store
        self._again = again
        self._last: int | None = None
        self._failed: int | None = None
        self._handlers: Mapping[str, Callable[[str], None]] = {
            "list": lambda _: self._list(),
            "run": self._run,
            "continue": self._continue,
            "skip": self._skip,
            "retry": lambda _: self._retry(),
            "edit": self._edit,
            "restore": self._restore,
            "do": self._do,
            "shell": self._shell,
            "back": self._back,
            "diff": self._diff,
            "show": self._show,
            "set": self._set,
            "reload": lambda _: self._reread("", ""),
            "save": self._save,
            "help": lambda _: _help(),
        }
        self._lines = Lines(os.environ, history_file(os.environ), self._completions)

    # The loop --------------------------------------------------------------------------------------------------------

    def loop(self) -> None:
        """Until the user quits."""
        self._list()
        note("`help` lists the commands; Ctrl-C ends a step, Ctrl-D the session")
        try:
            while True:
                try:
                    line = self._lines.read(self._prompt())
                except EOFError:
                    note("")
                    break
                except KeyboardInterrupt:
                    note("")
                    continue
                if line.split()[:1] and _command_of(line)[0] == "quit":
                    break
                self._obey(line)
        finally:
            self._lines.close()
        if walking.is_changed(self._walker.walk):
            note("these changes are not in the file:")
            self._print_changes()

    def _print_changes(self) -> None:
        for line in saved_lines(self._walker).splitlines():
            say(clean(line))

    def _prompt(self) -> str:
        total = len(walking.listed(self._walker.walk))
        at = self._walker.walk.at
        return f"boxwright {'end' if at >= total else f'{at + 1}/{total}'}> "

    def _obey(self, line: str) -> None:
        if not line.strip():
            return
        name, rest = _command_of(line)
        try:
            if name not in self._handlers:
                raise _unknown(name)
            self._handlers[name](rest)
        except BoxwrightError as error:
            complain(error)
        except OSError as error:
            complain(BoxwrightError("system", f"{error.strerror or error}: {error.filename or ''}".rstrip(": ")))
        except KeyboardInterrupt:
            note("interrupted")
        except EOFError:
            note("")

    def _completions(self, before: str, word: str) -> list[str]:
        if not before.strip():
            return [f"{it.name} " for it in COMMANDS if it.name.startswith(word)]
        name = _command_of(before)[0]
        if name == "save":
            return [path for path in _paths(word) if path.startswith(word)]
        if name not in WITH_NUMBER or len(before.split()) > 1:
            return []
        count = len(walking.listed(self._walker.walk))
        return [it for it in map(str, range(1, count + 1)) if it.startswith(word)]

    # Where ---------------------------------------------------------------------------------------------------------

    def _list(self) -> None:
        steps = self._walker.steps()
        width = len(str(len(steps)))
        for index, it in enumerate(steps):
            arrow = ">" if index == self._walker.walk.at else " "
            mark = it.mark.value or ("next" if arrow == ">" else "")
            change = f" ({it.change})" if it.change else ""
            note(f"{arrow} {index + 1:>{width}} {mark:<7} {step_name(it.node)}{change}")
        if self._walker.walk.at >= len(steps):
            note(f"> {'':>{width}} the end")

    def _number(self, text: str, default: int | None) -> int:
        """The step that is meant. Raises UsageError `interactive.step`."""
        steps = walking.listed(self._walker.walk)
        word = text.strip()
        if word.isascii() and word.isdigit() and 1 <= int(word) <= len(steps):
            return steps[int(word) - 1]
        if word or default is None:
            message = f"there is no step {word}" if word else "there is no such step"
            raise UsageError("interactive.step", message, hint=f"there are steps 1 to {len(steps)}; `list` shows them")
        return default

    def _next(self) -> int | None:
        return walking.next_number(self._walker.walk)

    def _before(self) -> int | None:
        walk = self._walker.walk
        return walking.listed(walk)[walk.at - 1] if walk.at else None

    def _shown(self, number: int) -> str:
        walk = self._walker.walk
        return f"{walking.listed(walk).index(number) + 1}: {step_name(walking.node_of(walk, number))}"

    # Going ---------------------------------------------------------------------------------------------------------

    def _run(self, rest: str) -> None:
        self._execute(self._number(rest, self._next()), again=self._again)

    def _retry(self) -> None:
        number = self._failed if self._failed is not None else self._last
        if number not in walking.listed(self._walker.walk):
            number = self._before()
        self._execute(self._number("", number), again=True)

    def _continue(self, rest: str) -> None:
        last = self._number(rest, None) if rest else None
        while (number := self._next()) is not None:
            if number in self._walker.walk.skipped:
                self._walker.walk = walking.gone_to(self._walker.walk, self._walker.walk.at + 1)
            elif not self._execute(number, again=self._again):
                return
            if number == last:
                return

    def _execute(self, number: int, *, again: bool) -> bool:
        """Do a step; whether it succeeded."""
        if number in self._walker.walk.skipped:
            self._walker.walk = walking.restored(self._walker.walk, number)
        displays: list[WalkDisplay] = []

        def emit(graph: Graph, places: Mapping[int, int]) -> Emit:
            steps = walking.listed(self._walker.walk)
            displays.append(WalkDisplay(graph, {place: str(steps.index(it) + 1) for place, it in places.items()}))
            return displays[-1].emit

        self._failed = None
        try:
            with _interruptible():
                if not self._walker.run(number, emit, again=again):
                    note(f"{self._shown(number)}\n  cached")
        except Failed as failure:
            self._failed = number
            explain_step(failure, displays[-1].graph, self._walker.subject.build.definition)
            self._stay(number)
            return False
        except KeyboardInterrupt:
            self._failed = number
            self._stay(number)
            raise
        self._last = number
        self._tell_end()
        return True

    def _tell_end(self) -> None:
        """Say at the end what becomes of what was walked."""
        walker = self._walker
        if self._next() is not None:
            return
        if not walker.is_complete(walker.planned()[1]):
            note("this is the end, but not all is done: `list` shows it, `back` goes there")
        elif walking.is_changed(walker.walk):
            note("all is done, but the file says something else: its names are given only after `save -w`")
        else:
            note("all is done: `quit` records the image")

    def _stay(self, number: int) -> None:
        index = walking.listed(self._walker.walk).index(number)
        self._walker.walk = walking.gone_to(self._walker.walk, index)

    def _back(self, rest: str) -> None:
        number = self._number(rest, self._before())
        self._stay(number)
        note(f"next is {self._shown(number)}")

    # Changing ---------------------------------------------------------------------------------------------------------

    def _skip(self, rest: str) -> None:
        number = self._number(rest, self._next())
        shown = self._shown(number)
        self._walker.walk = walking.with_skipped(self._walker.walk, number)
        note(f"{'forgotten' if number < 0 else 'skipped'} {shown}")

    def _restore(self, rest: str) -> None:
        number = self._number(rest, None)
        self._walker.walk = walking.restored(self._walker.walk, number)
        self._list()

    def _edit(self, rest: str) -> None:
        words = rest.split(None, 1)
        in_editor = words[:1] == ["-e"]
        if in_editor:
            words = words[1].split(None, 1) if len(words) > 1 else []
        given = words[0] if words and words[0].isdigit() else ""
        text = rest if not given and not in_editor else " ".join(words[1:])
        number = self._number(given, self._next())
        before = self._walker.text_of(number)
        if not text and (in_editor or "\n" in before):
            text = self._lines.edited(before)
        elif not text:
            text = self._lines.read("edit> ", before)
        if text == before:
            note("nothing changed")
            return
        self._walker.edit(number, text)
        note(f"next is {self._shown(number)}")

    def _do(self, rest: str) -> None:
        if not rest:
            raise UsageError("interactive.text", "a command is expected", hint="do apt-get install -y curl")
        before = self._walker.walk
        number = self._walker.type(rest)
        try:
            done = self._execute(number, again=self._again)
        except BaseException:
            self._walker.walk = before
            raise
        if not done:
            self._walker.walk = before
            note("it is not kept as a step")

    def _set(self, rest: str) -> None:
        name, equals, value = rest.partition("=")
        if not equals or not name.strip().isidentifier():
            raise UsageError("interactive.set", "NAME=VALUE is expected")
        self._reread(name.strip(), value)

    def _reread(self, name: str, value: str) -> None:
        for title in self._walker.reread(name, value):
            note(f"warning: the file has no step '{clean(title)}' any more: its change is forgotten")
        for argument in self._walker.subject.build.unused_arguments:
            note(f"warning: no ARG of the recipe declares {clean(argument)}")
        self._list()

    def _save(self, rest: str) -> None:
        if not walking.is_changed(self._walker.walk):
            note("nothing was changed")
            return
        if not rest:
            self._print_changes()
            return
        saved: Saved = save_into(self._walker, "" if rest == "-w" else os.path.expanduser(rest))
        note(saved.message)
        if saved.subject is not None:
            self._walker.restart(saved.subject)
        self._tell_again()

    def _tell_again(self) -> None:
        """Where the definition lies in what is copied, a change of it undoes what was done."""
        walker = self._walker
        steps = walker.steps()[: walker.walk.at]
        if any(it.mark is Mark.OPEN for it in steps):
            walker.to_first_open()
            note("the directory is copied into the image, and has changed: `continue` does again what stands on it")

    # Looking ---------------------------------------------------------------------------------------------------------

    def _shell(self, rest: str) -> None:
        number = self._next()
        request = self._walker.shell_request(self._number(rest, number) if rest or number is not None else None)
        note("what you do here is thrown away; exit leaves it")
        status = open_shell(self._store, request, LateSandbox(self._store.home.cache), terminal=sys.stdin.isatty())
        note(f"the shell ended with {status}")

    def _diff(self, rest: str) -> None:
        number = self._number(rest, self._before())
        changes = self._walker.diff(number)
        note(f"{self._shown(number)} changed {len(changes)} path{'' if len(changes) == 1 else 's'}")
        print_changes(changes)

    def _show(self, rest: str) -> None:
        number = self._number(rest, self._next())
        node = walking.node_of(self._walker.walk, number)
        note(self._shown(number))
        for line in source_lines(node.span, self._walker.subject.build.definition) if number >= 0 else []:
            note(line)
        if isinstance(node.step, Run):
            note(f"command: {' '.join(map(repr, node.step.argv))}")
            note(f"directory: {node.step.cwd}  user: {node.step.user or 'root'}  network: {node.step.network}")
            for name, value in node.step.env:
                note(f"{name}={clean(value)}")


def _help() -> None:
    for it in COMMANDS:
        words = f"{it.name}{f', {it.short}' if it.short else ''} {it.arguments}"
        note(f"  {words:<24} {it.help}")


def _command_of(line: str) -> tuple[str, str]:
    """The command that a line means, by its name, another word for it, or how it begins; and what follows."""
    text = line.strip()
    if text.startswith("!"):
        return "do", text[1:].strip()
    word, _, rest = text.partition(" ")
    exact = next((it.name for it in COMMANDS if word in (it.name, it.short)), "")
    begins = [it.name for it in COMMANDS if it.name.startswith(word)]
    return exact or (begins[0] if len(begins) == 1 else word), rest.strip()


def _unknown(name: str) -> UsageError:
    import difflib

    near = difflib.get_close_matches(name, [it.name for it in COMMANDS], n=1)
    hint = f"did you mean '{near[0]}'?" if near else "`help` lists the commands; `do COMMAND` runs one in the image"
    return UsageError("interactive.command", f"there is no command {name!r} here", hint=hint)


def _paths(word: str) -> list[str]:
    directory, _, _ = word.rpartition("/")
    try:
        with os.scandir(directory or (word[:1] == "/" and "/") or ".") as entries:
            prefix = f"{directory}/" if "/" in word else ""
            return sorted(f"{prefix}{it.name}{'/' if it.is_dir() else ''}" for it in entries)
    except OSError:
        return []


@contextmanager
def _interruptible() -> Iterator[None]:
    """Ctrl-C ends the step once: pressed again while that is being cleared away it does nothing."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        signal.signal(signal.SIGINT, lambda *_: note("(ending the step)"))
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
