"""Stages become nodes."""

from __future__ import annotations

from collections.abc import Sequence

from boxwright.frontends.recipe.copy import copy_step, copy_words
from boxwright.frontends.recipe.keywords import flag_value
from boxwright.frontends.recipe.options import RecipeOptions, context_name
from boxwright.frontends.recipe.parser import parse, parse_trigger
from boxwright.frontends.recipe.predefined import split_platform
from boxwright.frontends.recipe.problem import wrong
from boxwright.frontends.recipe.run import run_step
from boxwright.frontends.recipe.settings import SETTINGS
from boxwright.frontends.recipe.stages import Stage, Stages, circular, find_stages, needed
from boxwright.frontends.recipe.state import StageDatabase, StageState
from boxwright.frontends.recipe.syntax import Instruction
from boxwright.frontends.recipe.title import title
from boxwright.model.graph import Gate, Graph, GraphDatabase, Instructed, Node
from boxwright.model.image import Database, ImageConfig
from boxwright.model.span import Span
from boxwright.model.step import (
    ContextSource,
    Copy,
    MakeDirectory,
    Mount,
    Run,
    Scratch,
    ServiceData,
    SnapshotSource,
    Source,
    Step,
)
from boxwright.ports import Resolver

SCRATCH = "scratch"


class GraphBuilder:
    """Makes the graph of one target."""

    def __init__(self, stages: Stages, resolver: Resolver, options: RecipeOptions) -> None:
        self._stages = stages
        self._resolver = resolver
        self._options = options
        self._nodes: list[Node] = []
        self._outside: dict[str, tuple[int, ImageConfig]] = {}
        self._fetches: dict[Step, int] = {}
        self._done: dict[int, StageState] = {}
        self._active: list[int] = []
        self._validations: frozenset[int] = frozenset()
        self._servers: dict[tuple[str, str], tuple[int, ImageConfig, int]] = {}

    def graph(self, target: int, validations: Sequence[int] = ()) -> Graph:
        """The graph whose result is the stage `target`, with the stages that gate it."""
        self._validations = frozenset(validations)
        state = self._stage(target)
        if state.databases:
            self._embed(self._stages.stages[target], state)
        config = state.image_config()
        labels = tuple({**dict(config.labels), **dict(self._options.labels)}.items())
        gates = tuple(
            Gate(self._shown(self._stages.stages[number]), self._stage(number).node) for number in validations
        )
        config = config._replace(labels=labels)
        return Graph(tuple(self._nodes), state.node, config, gates, tuple(state.history), _carried(state.databases))

    def _shown(self, stage: Stage) -> str:
        """How the stage is called in plans and progress."""
        return f"validate {stage.shown}" if stage.number in self._validations else stage.shown

    def _stage(self, index: int) -> StageState:
        """The end of a stage, made now if it has not been: with all that it needs, so that nothing nests."""
        if index not in self._done:
            for number in needed(self._stages, index):
                if number in self._active:
                    stages = self._stages.stages
                    raise circular([*(stages[item] for item in self._active), stages[number]])
                if number not in self._done:
                    self._active.append(number)
                    self._done[number] = self._made(self._stages.stages[number])
                    self._active.pop()
        return self._done[index]

    def _made(self, stage: Stage) -> StageState:
        state = self._start(stage)
        triggers, state.onbuild = state.onbuild, ()
        for text in triggers:
            self._apply(stage, state, parse_trigger(text, stage.start.span))
        for instruction in stage.instructions:
            self._apply(stage, state, instruction)
        return state

    def _start(self, stage: Stage) -> StageState:
        if stage.parent is not None:
            return self._stage(stage.parent).child()
        node, config = self._outside_tree(stage, stage.base, stage.start)
        state = StageState(config, node, self._stages.scope, {}, set())
        state.history.append(Instructed(stage.start.text, node))
        return state

    def _outside_tree(self, stage: Stage, name: str, instruction: Instruction) -> tuple[int, ImageConfig]:
        """The node of a tree that no stage makes; one for each name."""
        if name not in self._outside:
            self._outside[name] = self._fetched(stage, name, instruction)
        return self._outside[name]

    def _fetched(self, stage: Stage, name: str, instruction: Instruction) -> tuple[int, ImageConfig]:
        shown = title(instruction.text) if instruction.keyword == "FROM" else f"FROM {name}"
        span = instruction.span
        wanted = context_name(name)
        if name != SCRATCH and wanted not in self._options.contexts:
            name = self._options.images.get(wanted, name)
            base = self._resolver.base(name, self._options.platform, span)
            self._nodes.append(Node(base.step, (), shown, stage.shown, span, base.shown))
            return len(self._nodes) - 1, base.config
        system, architecture, variant = split_platform(self._options.platform)
        config = ImageConfig(architecture, system, variant)
        node = self._add(Scratch(), (), shown, stage, span)
        if wanted in self._options.contexts:
            whole = Copy((ContextSource(("/",), wanted),), "/")
            node = self._add(whole, (node,), shown, stage, span)
        return node, config

    def _add(self, step: Step, inputs: tuple[int, ...], shown: str, stage: Stage, span: Span) -> int:
        self._nodes.append(Node(step, inputs, shown, self._shown(stage), span))
        return len(self._nodes) - 1

    def _apply(self, stage: Stage, state: StageState, instruction: Instruction) -> None:
        """One instruction: a change of the state, a node, or both."""
        if instruction.keyword in SETTINGS:
            SETTINGS[instruction.keyword](state, instruction)
        inputs: tuple[int, ...] = ()
        step: Step
        if instruction.keyword == "RUN":
            step, inputs = self._run(stage, state, instruction)
        elif instruction.keyword in {"COPY", "ADD"}:
            self._copy(stage, state, instruction)
            return
        elif instruction.keyword == "DBASE":
            self._database(stage, state, instruction)
            return
        elif instruction.keyword == "WORKDIR" and state.directory != "/":
            step = MakeDirectory(state.directory, state.config.user)
        elif instruction.keyword in SETTINGS:
            state.history.append(Instructed(instruction.text, None))
            return
        else:
            raise wrong(f"{instruction.keyword} can't stand here", instruction.span)
        self._advance(stage, state, instruction, step, inputs)
        if isinstance(step, Run) and step.services:
            self._note_data(stage, state, instruction)

    def _run(self, stage: Stage, state: StageState, instruction: Instruction) -> tuple[Step, tuple[int, ...]]:
        """A mount's ``from`` becomes the position of an input, unless it names a build context."""
        step = run_step(state, instruction, self._options.network)
        inputs: list[int] = []
        mounts: list[Mount] = []
        for mount in step.mounts:
            options = dict(mount.options)
            name = options.pop("from", "")
            if context_name(name) in self._options.contexts:
                options["context"] = context_name(name)
            elif name:
                inputs.append(self._tree(stage, name, instruction))
                options["position"] = str(len(inputs))
            mounts.append(mount._replace(options=tuple(sorted(options.items()))))
        if inputs or mounts:
            step = step._replace(mounts=tuple(mounts))
        if state.databases:
            from boxwright.frontends.recipe.dbase import services

            step = step._replace(services=services(state.databases, len(inputs) + 1))
            inputs.extend(it.data for it in state.databases)
        return step, tuple(inputs)

    def _note_data(self, stage: Stage, state: StageState, instruction: Instruction) -> None:
        """What the services leave beside the RUN step that was just added."""
        run = state.node
        for number, it in enumerate(state.databases):
            shown = title(f"{it.database.name}: data after {instruction.text}")
            data = self._add(ServiceData(it.database.name), (run,), shown, stage, instruction.span)
            state.databases[number] = it._replace(data=data)

    def _database(self, stage: Stage, state: StageState, instruction: Instruction) -> None:
        """DBASE: from here on each RUN has the server beside it."""
        from boxwright.frontends.recipe import dbase

        database = dbase.read_dbase(state, instruction)
        server, config, data = self._server(database, stage, instruction)
        state.databases.append(StageDatabase(database, server, config, data))
        if not database.embedded:
            state.history.append(Instructed(instruction.text, None))
        else:
            self._advance(stage, state, instruction, dbase.tools(), (server,))
            self._advance(stage, state, instruction, dbase.install(self._outer_network()), ())

    def _server(self, database: Database, stage: Stage, instruction: Instruction) -> tuple[int, ImageConfig, int]:
        """A server's image, how it is run, and its first data; of the recipe that comes with the program."""
        from boxwright.frontends.recipe import dbase

        server, suite = dbase.server_of(database)
        if (server.recipe, suite) not in self._servers:
            text, file = self._resolver.recipe(server.recipe)
            arguments = {"SUITE": suite}
            options = RecipeOptions(
                build_args=arguments, platform=self._options.platform, network=self._outer_network()
            )
            recipe = parse(text, file)
            inner = GraphBuilder(find_stages(recipe, file, options), self._resolver, options)
            inner._nodes, inner._outside = self._nodes, self._outside
            end = inner._stage(0)
            shown = f"DBASE {database.kind} {database.version}: data before the first step"
            data = self._add(dbase.initial_data(database), (end.node,), shown, stage, instruction.span)
            self._servers[server.recipe, suite] = end.node, end.image_config(), data
        return self._servers[server.recipe, suite]

    def _outer_network(self) -> str:
        """The network for installing what the definition itself doesn't name."""
        return "default" if self._options.network == "none" else self._options.network

    def _embed(self, stage: Stage, state: StageState) -> None:
        """Bring an embedded database's content into the tree, and have it started with the image."""
        from boxwright.frontends.recipe import dbase

        for it in state.databases:
            if it.database.embedded:
                span, name = stage.start.span, it.database.name
                state.node = self._add(dbase.content(), (state.node, it.data), f"{name}: dump", stage, span)
                state.node = self._add(dbase.load(), (state.node,), f"{name}: load the dump", stage, span)
                state.history.append(Instructed(f"DBASE {it.database.kind} embedded: content", state.node))
                state.config = dbase.started_inside(state.config, it.database)
            names = {it.database.name}
            kept = tuple(other for other in state.config.databases if other.name not in names)
            state.config = state.config._replace(databases=(*kept, it.database))

    def _copy(self, stage: Stage, state: StageState, instruction: Instruction) -> None:
        """One step, or several where something is fetched: each of that has times and archives of its own kind."""
        words = copy_words(state, instruction)
        before = len(state.history)
        groups = [*words.groups()]
        if len(words.paths) + len(words.documents) > 1 and flag_value(instruction.flags, "checksum"):
            raise wrong("--checksum is for one source", instruction.span, hint="give each an ADD of its own")
        for group in groups:
            if group[0] in words.remote:
                self._fetched_copy(stage, state, instruction, group[0], words.destination)
                continue
            documents = words.documents if group is groups[-1] else ()
            sources, inputs = self._sources(stage, instruction, group)
            step = copy_step(state, instruction, (sources, *documents), words.destination)
            self._advance(stage, state, instruction, step, inputs)
        if words.documents and (not groups or groups[-1][0] in words.remote):
            step = copy_step(state, instruction, words.documents, words.destination)
            self._advance(stage, state, instruction, step, ())
        del state.history[before:-1]  # one instruction, one entry

    def _fetched_copy(
        self, stage: Stage, state: StageState, instruction: Instruction, word: str, destination: str
    ) -> None:
        from boxwright.frontends.recipe.remote import fetched

        fetch, source = fetched(state, instruction, word)
        position = self._fetches.get(fetch)
        if position is None:
            position = self._add(fetch, (), title(_redacted(f"FETCH {word}")), stage, instruction.span)
            self._fetches[fetch] = position
        step = copy_step(state, instruction, (source,), destination, remote=True)
        self._advance(stage, state, instruction, step, (position,))

    def _sources(
        self, stage: Stage, instruction: Instruction, paths: tuple[str, ...]
    ) -> tuple[Source, tuple[int, ...]]:
        name = flag_value(instruction.flags, "from")
        if name and context_name(name) not in self._options.contexts:
            return SnapshotSource(paths, 1), (self._tree(stage, name, instruction),)
        return ContextSource(paths, context_name(name or "")), ()

    def _advance(
        self, stage: Stage, state: StageState, instruction: Instruction, step: Step, inputs: tuple[int, ...]
    ) -> None:
        text = _redacted(instruction.text)
        state.node = self._add(step, (state.node, *inputs), title(text), stage, instruction.span)
        state.history.append(Instructed(text, state.node))

    def _tree(self, stage: Stage, name: str, instruction: Instruction) -> int:
        """The node that ``--from`` means: a stage's last, or a tree from outside."""
        if "$" in name:
            raise wrong("--from takes no variable", instruction.span, hint="FROM does: give it a stage of its own")
        index = self._stages.find(name, instruction.span)
        if index is not None:
            return self._stage(index).node
        return self._outside_tree(stage, name, instruction)[0]


def _carried(databases: Sequence[StageDatabase]) -> tuple[GraphDatabase, ...]:
    """The databases whose content travels beside the image."""
    if not databases:
        return ()
    from boxwright.frontends.recipe.dbase import DUMP, image_name

    return tuple(
        GraphDatabase(it.database, it.data, DUMP, it.server, it.config, image_name(it.database))
        for it in databases
        if not it.database.embedded
    )


def _redacted(text: str) -> str:
    """A text without the passwords of addresses."""
    if "://" in text and "@" in text:
        from boxwright.model.giturl import redacted

        return redacted(text)
    return text
