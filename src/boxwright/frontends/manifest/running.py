"""Commands as Run steps: with toolboxes, and with services beside them whose data goes from step to step."""

from __future__ import annotations

import posixpath
import shlex
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from boxwright.frontends.manifest.problem import wrong
from boxwright.frontends.manifest.schema import InstallTask, ScriptTask, ServiceUse, TestPart, Toolbox
from boxwright.frontends.manifest.services import Planned, plain_service, planned
from boxwright.frontends.manifest.settings import command_words
from boxwright.frontends.manifest.wanted import ManifestWorld
from boxwright.model.graph import Node
from boxwright.model.image import ImageConfig
from boxwright.model.span import Span
from boxwright.model.step import Mount, Run, Service, ServiceData
from boxwright.ports import Resolver

if TYPE_CHECKING:
    from boxwright.frontends.manifest.graph import NodeStore

TreeOf = Callable[[str, Span], tuple[int, ImageConfig]]


class Commands(NamedTuple):
    """What commands are given where a task says nothing else."""

    network: str
    directory: str
    platform: str


class Settings(NamedTuple):
    """What one command is given."""

    network: str
    directory: str
    user: str
    environment: tuple[tuple[str, str], ...] = ()
    mounts: tuple[Mount, ...] = ()


class Placed(NamedTuple):
    """Where a command stands: its stage, its place, and how it is shown where that is not the command itself."""

    stage: str
    where: Span
    shown: str = ""


class _Beside(NamedTuple):
    """A service: its tree or data is the node `data`."""

    planned: Planned
    data: int
    config: ImageConfig
    server: int


class Runner:
    """Adds the commands of one entry."""

    def __init__(
        self,
        nodes: NodeStore,
        tree_of: TreeOf,
        world: ManifestWorld,
        resolver: Resolver,
        commands: Commands,
        toolboxes: tuple[tuple[Toolbox, Span], ...],
        services: tuple[Planned, ...],
    ) -> None:
        self._nodes = nodes
        self._tree_of = tree_of
        self._world = world
        self._resolver = resolver
        self._commands = commands
        self._toolboxes = toolboxes
        self._beside = [self._service(it) for it in services]

    def settings(self, task: InstallTask | ScriptTask | None, directory: str = "") -> Settings:
        """What a task's command is given."""
        if task is None:
            return Settings(self._commands.network, directory or self._commands.directory, "")
        return Settings(
            task.network or self._commands.network,
            task.directory or directory or self._commands.directory,
            task.user or "",
            tuple(task.environment.items()),
        )

    def run(
        self,
        state: int,
        command: str | tuple[str, ...],
        config: ImageConfig,
        settings: Settings,
        at: Placed,
    ) -> int:
        """A command on the line to the image; what it writes into services stays there for the next one."""
        position, self._beside = self._run(state, command, config, settings, at, self._beside)
        return position

    def plain(self, state: int, config: ImageConfig, at: Placed) -> Node:
        """What one more command on that line would be; it is not added."""
        return self._command(state, "", config, self.settings(None), at, self._beside, keep=True)

    def branch(self, state: int, task: ScriptTask, config: ImageConfig, at: Placed) -> tuple[str, int]:
        """A validation: its commands one after the other, on copies of the state and of what services hold."""
        beside = self._beside
        commands = (task.run,) if isinstance(task.run, str) else task.run
        for number, command in enumerate(commands):
            last = number == len(commands) - 1
            state, beside = self._run(state, command, config, self.settings(task), at, beside, keep=not last)
        return at.stage, state

    def test(self, state: int, test: TestPart, task: ScriptTask, config: ImageConfig, at: Placed) -> tuple[str, int]:
        """The built image is started beside the services, and the command is run against it."""
        stage, where, _ = at
        beside = [*self._beside, *(self._service(it) for it in planned(test.services, {}, where))]
        tree, own = (state, config) if not test.image else self._tree_of(test.image, where)
        inputs = [it.data for it in beside]
        services = [self._as_service(it, 1 + number, keep=False) for number, it in enumerate(beside)]
        if test.start:
            use = ServiceUse(command=test.command, environment=test.environment, ready=test.ready, port=test.ready.port)
            app = Planned(test.name, "", use, None, None, where)
            if any(it.planned.name == test.name for it in beside):
                raise wrong("service", f"the built image and a service are both called {test.name}", where)
            services.append(plain_service(app, config, 1 + len(beside), keep=False, told=True))
            inputs.append(state)
        script = task.run if isinstance(task.run, str) else "\n".join(("set -e", *task.run))
        settings = self.settings(task)
        directory = settings.directory if not test.image or task.directory else own.workdir or "/"
        env = tuple({**dict(own.env), **dict(settings.environment)}.items())
        argv = command_words(script, own)
        step = Run(argv, env, directory, settings.user, task.network or "none", services=tuple(services))
        title = f"test {' '.join(script.split())}"
        return stage, self._nodes.add_node(step, (tree, *inputs), title, stage, where)

    def _run(
        self,
        state: int,
        command: str | tuple[str, ...],
        config: ImageConfig,
        settings: Settings,
        at: Placed,
        beside: list[_Beside],
        *,
        keep: bool = True,
    ) -> tuple[int, list[_Beside]]:
        made = self._command(state, command, config, settings, at, beside, keep=keep)
        title = made.title
        position = self._nodes.add_node(made.step, made.inputs, title, at.stage, at.where)
        if not keep:
            return position, beside
        after: list[_Beside] = []
        for it in beside:
            name = it.planned.name.upper()
            shown = f"{name}: data after {title}"
            data = self._nodes.add_node(ServiceData(name), (position,), shown, at.stage, at.where)
            after.append(it._replace(data=data))
        return position, after

    def _command(
        self,
        state: int,
        command: str | tuple[str, ...],
        config: ImageConfig,
        settings: Settings,
        at: Placed,
        beside: list[_Beside],
        *,
        keep: bool,
    ) -> Node:
        mounts, inputs = self._mounts()
        services = [self._as_service(it, 1 + len(inputs) + n, keep=keep) for n, it in enumerate(beside)]
        inputs.extend(it.data for it in beside)
        step = Run(
            argv=command_words(command, config),
            env=tuple({**dict(config.env), **dict(settings.environment)}.items()),
            cwd=settings.directory,
            user=settings.user,
            network=settings.network,
            mounts=(*settings.mounts, *mounts),
            services=tuple(services),
        )
        text = command if isinstance(command, str) else shlex.join(command)
        title = at.shown or f"run {' '.join(text.split())}"
        return Node(step, (state, *inputs), title, at.stage, at.where)

    def _mounts(self) -> tuple[tuple[Mount, ...], list[int]]:
        mounts: list[Mount] = []
        inputs: list[int] = []
        for box, where in self._toolboxes:
            if box.image:
                inputs.append(self._tree_of(box.image, where)[0])
                options = {"position": str(len(inputs)), "source": "/"}
            elif box.facts:
                own = self._world.toolbox()
                options = {"source": own.path, "context": own.context}
            else:
                path = posixpath.normpath(posixpath.join(posixpath.dirname(where.file), box.src))
                tree = self._world.tree(path)
                if tree is None or box.src.startswith("/"):
                    raise wrong("outside", f"{box.src} is not below the definition's directory", where)
                if not self._world.kind(path):
                    raise wrong("no-file", f"there is no directory {box.src}", where)
                options = {"source": tree.path, **({"context": tree.context} if tree.context else {})}
            mounts.append(Mount("bind", box.dest, tuple(sorted(options.items()))))
        return tuple(mounts), inputs

    # Services --------------------------------------------------------------------------------------------------------

    def _service(self, it: Planned) -> _Beside:
        if it.database is None:
            position, config = self._tree_of(it.image, it.where)
            return _Beside(it, position, config, position)
        from boxwright.frontends.recipe.dbase import initial_data
        from boxwright.frontends.recipe.frontend import server_graph

        graph = server_graph(it.database, self._resolver, self._commands.platform, self._commands.network)
        server = self._splice(graph.nodes) + graph.target
        title = f"{it.name}: data before the first step"
        data = self._nodes.add_node(initial_data(it.database), (server,), title, f"service {it.name}", it.where)
        return _Beside(it, data, graph.config, server)

    def _splice(self, nodes: tuple[Node, ...]) -> int:
        offset = len(self._nodes.nodes)
        self._nodes.nodes.extend(
            node._replace(inputs=tuple(number + offset for number in node.inputs)) for node in nodes
        )
        return offset

    @staticmethod
    def _as_service(it: _Beside, position: int, *, keep: bool) -> Service:
        if it.planned.database is None:
            return plain_service(it.planned, it.config, position, keep=keep)
        from boxwright.frontends.recipe.dbase import services
        from boxwright.frontends.recipe.state import StageDatabase

        database = StageDatabase(it.planned.database, it.server, it.config, it.data)
        return services([database], position)[0]._replace(keep=keep)
