"""A build that is walked step by step: what a prompt asks of it."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Mapping
from enum import Enum
from typing import NamedTuple

from boxwright.app.build import Build
from boxwright.app.comparison import FileChange, tree_changes
from boxwright.app.execution import describe_bases, execute_plan
from boxwright.app.request import BuildRequest
from boxwright.app.shells import ShellRequest, request_for
from boxwright.errors import UsageError
from boxwright.model.digest import Digest
from boxwright.model.graph import Graph, Node
from boxwright.model.image import Image
from boxwright.model.step import MakeDirectory, Run, ServiceData
from boxwright.ports import Emit
from boxwright.solver import walking
from boxwright.solver.planner import make_plan
from boxwright.solver.scheduler import Failed
from boxwright.solver.walking import Overlaid, Walk
from boxwright.store.images import Images
from boxwright.store.store import Store

SHELL = ("/bin/sh", "-c")
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Mark(Enum):
    """What became of a step."""

    CACHED = "cached"
    DONE = "done"
    SKIPPED = "skipped"
    FAILED = "failed"
    OPEN = ""


class Shown(NamedTuple):
    """A step as it is listed. `change`: typed, edited, or nothing."""

    number: int
    node: Node
    mark: Mark
    change: str


class Subject(NamedTuple):
    """What is walked: the whole build of the file, and what one more command at its end would be.

    `is_manifest` says which kind of definition it is. `reread` reads the file anew, with a variable more
    where one is named, or another file in its place.
    """

    build: Build
    plain: Node
    is_manifest: bool
    reread: Callable[[str, str, str], Subject]
    bring: Callable[[Build, Emit], Build] = lambda build, _: build


class Walker:
    """One walk. Call it while the process has one thread."""

    def __init__(self, subject: Subject, request: BuildRequest, store: Store) -> None:
        self.subject = subject
        self._request = request
        self._store = store
        self._ran: dict[Digest, Mark] = {}
        self.saved = Walk(subject.build.graph)
        self.walk = self.saved
        self.to_first_open()

    # Where it is -----------------------------------------------------------------------------------------------------

    def planned(self) -> tuple[Overlaid, Build]:
        """The graph with the changes in it, planned as files and store are now."""
        over = walking.overlaid(self.walk)
        other = self.subject.build.other
        if other is None:
            raise TypeError(self.subject.build.definition)
        return over, other(over.graph)

    def steps(self) -> list[Shown]:
        """All steps, in their order."""
        over, build = self.planned()
        edited = dict(self.walk.edited)
        found = []
        for number in walking.listed(self.walk):
            change = "typed" if number < 0 else "edited" if number in edited else ""
            mark = self._mark(number, over.places[number], build)
            found.append(Shown(number, walking.node_of(self.walk, number), mark, change))
        return found

    def _mark(self, number: int, place: int, build: Build) -> Mark:
        if number in self.walk.skipped:
            return Mark.SKIPPED
        key = build.keys.of(place).key
        ran = self._ran.get(key) if key else None
        if build.keys.snapshot(place) is None:
            return Mark.FAILED if ran is Mark.FAILED else Mark.OPEN
        return Mark.CACHED if ran is None else ran

    def to_first_open(self) -> None:
        """Let the first step be the next that nothing is recorded of."""
        steps = self.steps()
        index = next((n for n, it in enumerate(steps) if it.mark in (Mark.OPEN, Mark.FAILED)), len(steps))
        self.walk = walking.gone_to(self.walk, index)

    def to_failed(self, position: int) -> None:
        """Let the step of the file's graph that failed be the next, or what needs it where it is none of the walk's."""
        key = self.subject.build.keys.of(position).key
        if key is not None:
            self._ran[key] = Mark.FAILED
        steps = walking.listed(self.walk)
        index = next((n for n, number in enumerate(steps) if number >= position), len(steps))
        self.walk = walking.gone_to(self.walk, index)

    def is_complete(self, build: Build) -> bool:
        """Whether all is there that the image needs."""
        graph = build.graph
        ends = [graph.target, *(gate.node for gate in graph.gates)]
        return all(build.keys.snapshot(position) is not None for position in ends)

    # Going -----------------------------------------------------------------------------------------------------------

    def run(self, number: int, emit: Callable[[Graph, Mapping[int, int]], Emit], *, again: bool = False) -> bool:
        """Do a step and what it needs; it is passed then. Returns whether anything was done.

        Raises Failed with the position in the planned graph, and KeyboardInterrupt.
        """
        over, whole = self.planned()
        place = over.places[number]
        graph = over.graph._replace(target=place, gates=(), databases=())
        refuse = frozenset({place}) if again else frozenset[int]()
        plan = make_plan(graph, whole.keys, refuse=refuse)
        build = whole._replace(graph=graph, plan=plan, refuse=refuse)
        show = emit(graph, {there: it for it, there in over.places.items()})
        build = self.subject.bring(build, show)
        before = build.keys.snapshot(place)
        try:
            execute_plan(build, self._request, self._store, show)
        except Failed as failure:
            key = build.keys.of(failure.position).key
            if key is not None:
                self._ran[key] = Mark.FAILED
            if isinstance(failure.error, KeyboardInterrupt):
                raise KeyboardInterrupt from failure
            raise
        key = build.keys.of(place).key
        index = walking.listed(self.walk).index(number)
        self.walk = walking.gone_to(self.walk, index + 1)
        done = again or before is None
        if done and key is not None:
            self._ran[key] = Mark.DONE
        return done

    # Changing --------------------------------------------------------------------------------------------------------

    def text_of(self, number: int) -> str:
        """What can be edited of a step. Raises UsageError `interactive.not-editable`."""
        node = walking.node_of(self.walk, number)
        text = command_text(node, self.shell_of(node))
        if text is None:
            hint = "edit the file, then `reload`"
            raise UsageError("interactive.not-editable", f"{node.title} is no command", hint=hint)
        return text

    def edit(self, number: int, text: str) -> None:
        """Another text for a step, which is the next then."""
        self.text_of(number)
        node = walking.node_of(self.walk, number)
        self.walk = walking.with_edited(self.walk, number, with_text(node, text, self.shell_of(node)))

    def type(self, text: str) -> int:
        """A command as the next step; returns its number. What it can see is what a plain command there can."""
        plain = self.subject.plain
        title = f"run {_line(text)}"
        if not self.subject.is_manifest:
            plain = self._nearest(plain)
            title = f"RUN {_line(text)}"
        argv = (*self.shell_of(plain), text)
        self.walk = walking.with_typed(self.walk, walking.command_node(self.walk, plain, title, argv))
        number = walking.next_number(self.walk)
        if number is None:
            raise TypeError(text)
        return number

    def _nearest(self, plain: Node) -> Node:
        """In a recipe, settings are those of the nearest RUN before the place: ENV and USER may have changed since."""
        after, _ = walking.place_of_typed(self.walk)
        graph, position = self.walk.graph, after
        while True:
            step = graph.nodes[position].step
            if isinstance(step, Run):
                break
            if not graph.nodes[position].inputs:
                following = next((it for it in walking.listed(self.walk)[self.walk.at :] if it >= 0), None)
                step = graph.nodes[following].step if following is not None else plain.step
                break
            position = graph.nodes[position].inputs[0]
        own = plain.step
        if not isinstance(step, Run) or not isinstance(own, Run):
            return plain
        return plain._replace(step=own._replace(env=step.env, cwd=step.cwd, user=step.user, shell=step.shell))

    def shell_of(self, node: Node) -> tuple[str, ...]:
        """The shell to which text is given."""
        if isinstance(node.step, Run) and node.step.shell:
            return node.step.shell
        plain = self.subject.plain.step
        return plain.shell or plain.argv[:-1] if isinstance(plain, Run) else SHELL

    def reread(self, name: str = "", value: str = "") -> tuple[str, ...]:
        """Read the file anew, with a variable where one is named. Returns titles of changed steps that are gone."""
        subject = self.subject.reread(name, value, "")
        before = self.walk
        self.walk, lost = walking.moved_to(before, subject.build.graph)
        self.subject = subject
        return tuple(before.graph.nodes[it].title if it >= 0 else walking.node_of(before, it).title for it in lost)

    def restart(self, subject: Subject) -> None:
        """Go on with a definition in which the changes are: at the step at which it was."""
        steps = walking.listed(self.walk)[: self.walk.at]
        at = len([number for number in steps if number not in self.walk.skipped])
        self.subject = subject
        self.walk = walking.gone_to(Walk(subject.build.graph), at)

    # Looking ---------------------------------------------------------------------------------------------------------

    def shell_request(self, number: int | None) -> ShellRequest:
        """A shell as a step finds it, or at the end. Raises UsageError `interactive.no-state`."""
        over, build = self.planned()
        found = request_for(build, over.places[number]) if number is not None else self._end(build)
        if found is None:
            raise UsageError(
                "interactive.no-state", "what this step starts from isn't there", hint="run what is before"
            )
        return found

    def _end(self, build: Build) -> ShellRequest | None:
        target, plain = build.graph.target, self.subject.plain.step
        key = build.keys.of(target).key
        if key is None or build.keys.snapshot(target) is None or not isinstance(plain, Run):
            return None
        return ShellRequest(key, env=plain.env, cwd=plain.cwd, user=plain.user, network=plain.network)

    def diff(self, number: int) -> tuple[FileChange, ...]:
        """What a step changed. Raises UsageError `interactive.no-state` where it wasn't done."""
        over, build = self.planned()
        place = over.places[number]
        node = build.graph.nodes[place]
        after = build.keys.snapshot(place)
        before = build.keys.snapshot(node.inputs[0]) if node.inputs else None
        if number in self.walk.skipped or after is None or (node.inputs and before is None):
            raise UsageError("interactive.no-state", f"{node.title} wasn't done")
        return () if before is None else tree_changes(before, after, self._store)

    def keep_unnamed(self) -> Image:
        """The image of what was walked, without a name: it is not what the file says."""
        _, build = self.planned()
        snapshot = build.keys.snapshot(build.graph.target)
        if snapshot is None:
            raise TypeError(build.definition)
        config = build.graph.config
        if config.databases:
            from boxwright.app.databases import with_content

            config = with_content(config, build.graph.databases, build.keys.snapshot, self._store)
        image = Images(self._store).keep(config, snapshot, ())
        describe_bases(build.graph, image, self._store)
        return image


# Commands as text ---------------------------------------------------------------------------------------------------


def _line(text: str) -> str:
    return " ".join(text.split())


def command_text(node: Node, shell: tuple[str, ...]) -> str | None:
    """What a person edits: a command, names of packages, a directory; None where it is none of them."""
    step = node.step
    if isinstance(step, MakeDirectory):
        return step.path
    if not isinstance(step, Run) or step.stdin:
        return None
    names = packages_of(node)
    if names is not None:
        return names
    return step.argv[-1] if step.argv[:-1] == shell else shlex.join(step.argv)


def packages_of(node: Node) -> str | None:
    """The names of an `apt` task of a manifest; None for anything else."""
    from boxwright.frontends.manifest.graph import APT

    names = node.title.removeprefix("apt ")
    step = node.step
    known = names != node.title and isinstance(step, Run) and step.argv[-1] == APT.format(names=names)
    return names if known else None


def with_text(node: Node, text: str, shell: tuple[str, ...]) -> Node:
    """The step with another text. Raises UsageError `interactive.text` for one that is no command."""
    step = node.step
    if not text.strip() or "\0" in text:
        raise UsageError("interactive.text", "a command is expected", hint="`skip` leaves a step out")
    if isinstance(step, MakeDirectory):
        return node._replace(step=step._replace(path=text.strip()), title=node.title.replace(step.path, text.strip()))
    if not isinstance(step, Run):
        raise TypeError(node.title)
    if packages_of(node) is not None:
        from boxwright.frontends.manifest.graph import APT

        names = _line(text)
        argv = (*step.argv[:-1], APT.format(names=names))
        return node._replace(step=step._replace(argv=argv), title=f"apt {names}")
    word = node.title.split(" ", 1)[0]
    if step.argv[:-1] == shell:
        return node._replace(step=step._replace(argv=(*shell, text)), title=f"{word} {_line(text)}")
    try:
        words = tuple(shlex.split(text))
    except ValueError as error:
        raise UsageError("interactive.text", f"these are no words of a shell: {error}") from error
    return node._replace(step=step._replace(argv=words), title=f"{word} {shlex.join(words)}")


def plain_of(build: Build, network: str) -> Node:
    """What one more RUN at the end of a recipe would be, beside the databases that the last one has."""
    graph, config = build.graph, build.graph.config
    env = config.env if "PATH" in dict(config.env) else (*config.env, ("PATH", PATH))
    last: int | None = graph.target
    while last is not None and not isinstance(graph.nodes[last].step, Run):
        last = graph.nodes[last].inputs[0] if graph.nodes[last].inputs else None
    found = graph.nodes[last].step if last is not None else None
    services = found.services if isinstance(found, Run) else ()
    data = [_data_of(graph, last, it.name) for it in services if last is not None]
    step = Run(
        ("",),
        env,
        config.workdir or "/",
        config.user,
        network,
        shell=config.shell or SHELL,
        services=tuple(it._replace(position=1 + number) for number, it in enumerate(services)),
    )
    end = graph.nodes[graph.target]
    return Node(step, (graph.target, *data), "RUN", end.stage, end.span)


def _data_of(graph: Graph, run: int, service: str) -> int:
    wanted = ServiceData(service), (run,)
    return next(position for position, it in enumerate(graph.nodes) if (it.step, it.inputs) == wanted)


def history_file(environment: Mapping[str, str]) -> str:
    """Where what was typed at prompts is remembered (XDG Base Directory Specification: XDG_STATE_HOME)."""
    state = environment.get("XDG_STATE_HOME") or os.path.join(environment.get("HOME") or "/", ".local/state")
    return f"{state}/boxwright/history"
