"""A manifest's entries become nodes: tasks in order, each validation on a branch of its own."""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple, Protocol

from boxwright.frontends.container.packaging import Packaging
from boxwright.frontends.manifest.files import copy_steps
from boxwright.frontends.manifest.load import Entry, Loader, base_image, language_of
from boxwright.frontends.manifest.made import BuiltEntry, ManifestGraph
from boxwright.frontends.manifest.modules import Used, read_module
from boxwright.frontends.manifest.problem import of_manifests, wrong
from boxwright.frontends.manifest.render import Renderer
from boxwright.frontends.manifest.running import Commands, Placed, Runner
from boxwright.frontends.manifest.schema import (
    FileTask,
    InstallTask,
    Manifest,
    ManifestPackage,
    ModuleUse,
    ScriptTask,
    SourcePart,
    Tasks,
    TemplateTask,
    Toolbox,
)
from boxwright.frontends.manifest.services import Planned, planned
from boxwright.frontends.manifest.settings import configured, expanded
from boxwright.frontends.manifest.wanted import LanguageDefault, LanguageSpec, ManifestWorld
from boxwright.frontends.package import document as doc
from boxwright.frontends.package.convert import key_place, place_of
from boxwright.model.graph import Gate, Graph, Instructed, Node
from boxwright.model.image import ImageConfig
from boxwright.model.span import Span
from boxwright.model.step import ContextSource, Copy, MakeDirectory, Mount, Scratch, Step
from boxwright.ports import Resolver

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
SOURCE = "/srv/app"
MODULES_DEEP = 16
INSTALLS = ("run", "apt", "file", "template", "package", "module", "mkdir")
APT = "apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends {names}"
APT_CACHES = ("/var/cache/apt", "/var/lib/apt/lists")
"""What apt keeps there is kept between builds, and none of it gets into an image."""


class ManifestOptions(NamedTuple):
    """What the command line says. `variables` win over those of the file; `matrix` picks entries."""

    platform: str
    variables: Mapping[str, object] = MappingProxyType({})
    matrix: Mapping[str, str] = MappingProxyType({})
    labels: tuple[tuple[str, str], ...] = ()
    network: str = "default"
    validate: bool = True


class NodeStore(Protocol):
    """Where nodes are gathered."""

    nodes: list[Node]

    def add_node(self, step: Step, inputs: tuple[int, ...], title: str, stage: str, where: Span) -> int:
        """Add one; returns its position."""
        ...


class PlainNodes:
    """Nodes of a manifest that has no packages."""

    def __init__(self) -> None:
        self.nodes: list[Node] = []

    def add_node(self, step: Step, inputs: tuple[int, ...], title: str, stage: str, where: Span) -> int:
        """Add one; returns its position."""
        self.nodes.append(Node(step, inputs, title, stage, where))
        return len(self.nodes) - 1


def build_manifest(
    text: str,
    file: str,
    world: ManifestWorld,
    resolver: Resolver,
    options: ManifestOptions,
    packaging: Callable[[str], Packaging],
) -> ManifestGraph:
    """The graph of a manifest. `packaging` makes what composes packages, for a stage; asked only where there are some.

    Raises DefinitionError with the place of what is wrong.
    """
    notes: dict[str, None] = {}
    loader = Loader(world, options.variables, options.matrix, lambda text: notes.update({text: None}))
    with of_manifests():
        entries = loader.load(text, file)
        nodes: NodeStore = PlainNodes()
        if any("packages" in it.document.items or _has_packages(it.manifest) or it.manifest.modules for it in entries):
            nodes = packaging("").packages
        built = [
            EntryBuilder(entry, loader, world, resolver, options, nodes, packaging, several=len(entries) > 1).build()
            for entry in entries
        ]
        if options.matrix == {} and len(built) > 1:
            _refuse_same_names(built, entries[0])
    gates = [gate for one in built for gate in one[1]]
    gates += [Gate("", one[0].target) for one in built[1:]]
    first = built[0][0]
    history = tuple(Instructed(nodes.nodes[it].title, it) for it in built[0][2])
    graph = Graph(tuple(nodes.nodes), first.target, first.config, tuple(gates), history)
    return ManifestGraph(graph, tuple(one[0] for one in built), tuple(notes))


def _has_packages(manifest: Tasks) -> bool:
    return any(isinstance(it, InstallTask) and it.package is not None for it in manifest.install)


def _refuse_same_names(built: list[tuple[BuiltEntry, list[Gate], list[int]]], entry: Entry) -> None:
    seen: dict[str, str] = {}
    for one, _, _ in built:
        for name in one.names:
            if name in seen:
                message = f"{seen[name]} and {one.name} would both be called {name}"
                hint = "let the artifact's name say which: {{ matrix.NAME }}"
                raise wrong("artifact", message, key_place(entry.document, "artifact").span, hint=hint)
            seen[name] = one.name


class _Part(NamedTuple):
    """The manifest, or a module of it: what it says, where, and which names its templates see."""

    tasks: Tasks
    document: doc.Mapping
    names: Renderer
    file: str


class EntryBuilder:
    """One entry being turned into nodes."""

    def __init__(
        self,
        entry: Entry,
        loader: Loader,
        world: ManifestWorld,
        resolver: Resolver,
        options: ManifestOptions,
        nodes: NodeStore,
        packaging: Callable[[str], Packaging],
        *,
        several: bool,
    ) -> None:
        self._entry = entry
        self._manifest: Manifest = entry.manifest
        self._document = entry.document
        self._loader = loader
        self._world = world
        self._resolver = resolver
        self._options = options
        self._nodes = nodes
        self._name = ",".join(f"{key}={text}" for key, text in entry.choice) if several else ""
        self._stage = self._name or "image"
        self._packages: Packaging | None = None
        self._make_packages = packaging
        self._state = -1
        self._line: list[int] = []
        self._config = ImageConfig(options.platform.split("/")[1])
        self._trees: dict[str, tuple[int, ImageConfig]] = {}
        self._file = entry.document.place.file
        self._top = Span(self._file, 1)
        self._runner: Runner | None = None
        self._defaults: list[str] = []

    def build(self) -> tuple[BuiltEntry, list[Gate], list[int]]:
        """The entry, its gates, and the nodes on the way to its image."""
        language = self._start()
        parts = self._parts()
        for part in parts:
            self._config = configured(self._config, part.tasks, part.document.place.span)
        source = self._source()
        if source is not None and self._manifest.directory is None:
            self._config = self._config._replace(workdir=source.dest)
        commands = Commands(self._options.network, self._config.workdir or "/", self._options.platform)
        self._runner = Runner(
            self._nodes, self._tree_of, self._world, self._resolver, commands, self._toolboxes(), self._planned()
        )
        for command in language.prepare if language else ():
            self._run(command, self._language_place(), directory="/")
        for part in parts:
            self._tasks(part, language, source)
        labels = tuple(sorted({**dict(self._config.labels), **dict(self._options.labels)}.items()))
        author = self._manifest.author or self._config.author
        self._config = self._config._replace(labels=labels, author=author)
        plain = self._runner.plain(self._state, self._config, Placed(self._stage, self._top))
        gates = self._validations(parts, language) if self._options.validate else []
        artifact = self._manifest.artifact
        names = (artifact,) if isinstance(artifact, str) else artifact
        positions = tuple(gate.node for gate in gates)
        return BuiltEntry(self._name, self._state, self._config, positions, names, plain), gates, self._line

    # Where it starts -------------------------------------------------------------------------------------------------

    def _start(self) -> LanguageSpec | None:
        image = base_image(self._document, self._world)
        name, _ = language_of(self._document)
        language = self._world.language(name) if name else None
        if image is None:
            hint = f"`image: debian:bookworm`, or one of the languages {', '.join(self._world.languages())}"
            raise wrong("missing-key", "there is neither `image` nor `language`", self._top, hint=hint)
        where = key_place(self._document, "image" if "image" in self._document.items else "language").span
        self._state, config = self._tree_of(image, where)
        self._line.append(self._state)
        path = dict(config.env).get("PATH", DEFAULT_PATH)
        env = tuple({"PATH": path, **dict(config.env)}.items())
        if language is not None and not self._manifest.image:
            env = expanded(env, dict(language.env))
        self._config = config._replace(env=env, onbuild=())
        return language

    def _language_place(self) -> Span:
        return key_place(self._document, "language").span

    def _tree_of(self, image: str, where: Span) -> tuple[int, ImageConfig]:
        """The node of an image from outside; one for each name."""
        if image not in self._trees:
            if image == "scratch":
                position = self._nodes.add_node(Scratch(), (), "scratch", self._stage, where)
                self._trees[image] = position, self._config
            else:
                base = self._resolver.base(image, self._options.platform, where)
                node = Node(base.step, (), f"image {image}", self._stage, where, base.shown)
                known = next((n for n, it in enumerate(self._nodes.nodes) if it.step == base.step), None)
                if known is None:
                    self._nodes.nodes.append(node)
                    known = len(self._nodes.nodes) - 1
                self._trees[image] = known, base.config
        return self._trees[image]

    def _parts(self) -> list[_Part]:
        """The modules, each behind those that it uses, and the manifest itself."""
        own = _Part(self._manifest, self._document, self._entry.names, self._file)
        return [*self._modules(own, ()), own]

    def _modules(self, part: _Part, chain: tuple[str, ...]) -> list[_Part]:
        found: list[_Part] = []
        for number, use in enumerate(part.tasks.modules):
            where = place_of(part.document, "modules", number, "name").span
            if self._is_wanted(use.when, part, place_of(part.document, "modules", number, "when").span):
                found += self._module(use, where, chain)
        return found

    def _module(self, use: ModuleUse, where: Span, chain: tuple[str, ...]) -> list[_Part]:
        used: Used = read_module(use, where.file, where, self._loader, self._entry, self._world)
        if used.file in chain or len(chain) > MODULES_DEEP:
            cycle = " -> ".join((*chain[chain.index(used.file) :], used.file)) if used.file in chain else used.file
            raise wrong("cycle", f"modules use each other: {cycle}", where)
        part = _Part(used.module, used.document, used.names, used.file)
        return [*self._modules(part, (*chain, used.file)), part]

    def _source(self) -> SourcePart | None:
        given = self._manifest.source
        if given is None:
            return SourcePart(dest=SOURCE) if self._manifest.language is not None else None
        if isinstance(given, str):
            if given.lower() in ("false", "no", "none"):
                return None
            given = SourcePart(dest=given)
        if not given.dest.startswith("/"):
            raise wrong("value", f"`source` is a path from the root, not {given.dest!r}", self._place("source"))
        return given

    def _place(self, key: str) -> Span:
        return key_place(self._document, key).span

    def _planned(self) -> tuple[Planned, ...]:
        value = self._document.items.get("services")
        where = {name: place.span for name, place in value.keys.items()} if isinstance(value, doc.Mapping) else {}
        return planned(self._manifest.services, where, self._place("services"))

    def _toolboxes(self) -> tuple[tuple[Toolbox, Span], ...]:
        given = self._manifest.toolbox
        boxes = given if isinstance(given, tuple) else (Toolbox(src=given) if isinstance(given, str) else given,)
        where = self._place("toolbox")
        for box in boxes:
            if [bool(box.src), bool(box.image), box.facts].count(True) != 1:
                raise wrong("toolbox", "a toolbox needs one of `src`, `image` and `facts`", where)
        if len({posixpath.normpath(box.dest) for box in boxes}) < len(boxes):
            raise wrong("toolbox", "two toolboxes would be mounted in one place", where, hint="give them a `dest` each")
        return tuple((box, where) for box in boxes)

    # Tasks -----------------------------------------------------------------------------------------------------------

    def _tasks(self, part: _Part, language: LanguageSpec | None, source: SourcePart | None) -> None:
        for number, task in enumerate(part.tasks.files):
            self._file_task(task, part, "files", number)
        for number, template in enumerate(part.tasks.templates):
            self._file_task(template, part, "templates", number)
        for number, package in enumerate(part.tasks.packages):
            self._package(package, part, place_of(part.document, "packages", number), part.document, number)
        self._flush()
        default = None
        if part.tasks is self._manifest:
            default = self._default(language.install if language else ()) if "install" not in self._given() else None
            if source is not None:
                self._copy_source(source, default)
            if default is not None and not (default.reads and source is not None):
                self._run(default.run, self._language_place())
        for number, item in enumerate(part.tasks.install):
            self._install(item, part, number)

    def _given(self) -> frozenset[str]:
        return frozenset(self._document.items)

    def _default(self, choices: tuple[LanguageDefault, ...]) -> LanguageDefault | None:
        """The first of a language's defaults whose file is there."""
        directory = posixpath.dirname(self._file)
        there = (it for it in choices if not it.needs or self._world.kind(posixpath.join(directory, it.needs)))
        return next(there, None)

    def _copy_source(self, source: SourcePart, default: LanguageDefault | None) -> None:
        """What a default command reads and the command come first: an edit elsewhere doesn't run it again."""
        where = self._place("source" if "source" in self._given() else "language")
        directory = posixpath.dirname(self._file)
        tree = self._world.tree(directory or ".")
        context = tree.context if tree else ""
        if default is not None and default.reads:
            reads = tuple(it for it in default.reads if self._world.kind(posixpath.join(directory, it)))
            step = Copy((ContextSource(reads, context),), f"{source.dest.rstrip('/')}/", source.owner)
            self._add(step, f"copy {' '.join(reads)}", where)
            self._run(default.run, self._language_place())
        everything = ContextSource(("/",), context)
        whole = Copy((everything,), f"{source.dest.rstrip('/')}/", source.owner, exclude=source.exclude)
        self._add(whole, f"copy the project to {source.dest}", where)

    def _install(self, task: str | InstallTask, part: _Part, number: int) -> None:
        where = place_of(part.document, "install", number).span
        if isinstance(task, str):
            self._run(task, where)
            return
        given = [
            name for name in ("run", "apt", "file", "template", "package", "module", "mkdir") if getattr(task, name)
        ]
        if len(given) != 1:
            raise wrong("task", f"one of {', '.join(INSTALLS)} is expected here", where)
        if not self._is_wanted(task.when, part, where):
            return
        below = part.document.items.get("install")
        item = below.items[number] if isinstance(below, doc.Sequence) else part.document
        if task.file is not None or task.template is not None:
            inner = task.file or task.template
            if inner is not None:
                self._copied(inner, part, place_of(item, given[0], "src").span)
        elif task.mkdir is not None:
            self._add(MakeDirectory(task.mkdir, task.user or ""), f"mkdir {task.mkdir}", where)
        elif task.package is not None:
            self._package(task.package, part, place_of(item, "package"), item, number)
            self._flush()
        elif task.module is not None:
            for used in self._module(task.module, where, ()):
                self._config = configured(self._config, used.tasks, used.document.place.span)
                self._tasks(used, None, None)
        else:
            command = APT.format(names=" ".join(task.apt or ())) if task.apt else task.run or ""
            shown = f"apt {' '.join(task.apt)}" if task.apt else ""
            mounts = self._apt_caches() if task.apt else ()
            self._run(command, where, task=task, shown=shown, mounts=mounts)

    def _apt_caches(self) -> tuple[Mount, ...]:
        image = base_image(self._document, self._world) or ""
        return tuple(
            Mount("cache", path, (("id", f"apt {image} {path}"), ("sharing", "locked"))) for path in APT_CACHES
        )

    def _run(
        self,
        command: str | tuple[str, ...],
        where: Span,
        *,
        task: InstallTask | ScriptTask | None = None,
        directory: str = "",
        shown: str = "",
        mounts: tuple[Mount, ...] = (),
    ) -> None:
        runner = self._runner
        if runner is None:
            raise TypeError(command)
        settings = runner.settings(task, directory)._replace(mounts=mounts)
        at = Placed(self._stage, where, shown)
        self._state = runner.run(self._state, command, self._config, settings, at)
        self._line.append(self._state)

    def _add(self, step: Step, title: str, where: Span, *inputs: int) -> None:
        self._state = self._nodes.add_node(step, (self._state, *inputs), title, self._stage, where)
        self._line.append(self._state)

    def _file_task(self, task: FileTask, part: _Part, key: str, number: int) -> None:
        if self._is_wanted(task.when, part, place_of(part.document, key, number, "when").span):
            self._copied(task, part, place_of(part.document, key, number, "src").span)

    def _copied(self, task: FileTask, part: _Part, where: Span) -> None:
        names: Callable[[str, str], Renderer] | None = None
        if isinstance(task, TemplateTask):
            names = lambda text, file: self._names_for(part, text, file)  # noqa: E731 - it closes over the part
        for step in copy_steps(task, where, self._world, names):
            self._add(step, f"{'template' if names else 'file'} {task.dest}", where)

    def _names_for(self, part: _Part, text: str, file: str) -> Renderer:
        """The names of a part, with facts and data where a template is the first that uses them."""
        outer = self._loader.later(self._entry, text, file)
        if part.names is not outer:
            special = {name: value for name, value in outer.names.items() if name in ("facts", "host", "kv", "matrix")}
            part.names.names = {**special, **part.names.names}
        return part.names

    def _package(self, task: ManifestPackage, part: _Part, place: doc.Place, value: doc.Value, number: int) -> None:
        if not self._is_wanted(task.when, part, place.span):
            return
        if self._packages is None:
            self._packages = self._make_packages(self._stage)
        path = ("packages", number) if "packages" in getattr(value, "items", {}) else ("package",)
        self._packages.ask(task, place_value(value, path), place.span, "the manifest names it")

    def _flush(self) -> None:
        if self._packages is not None:
            made = self._packages.flush()
            if made is not None:
                self._add(made.step, made.title, made.where, *made.inputs)

    def _is_wanted(self, when: str, part: _Part, where: Span) -> bool:
        return not when or self._names_for(part, f"{{{{ {when} }}}}", part.file).condition(when, where)

    # Branches --------------------------------------------------------------------------------------------------------

    def _validations(self, parts: list[_Part], language: LanguageSpec | None) -> list[Gate]:
        runner = self._runner
        if runner is None:
            return []
        wanted: list[tuple[ScriptTask, Span]] = []
        for part in parts:
            for number, item in enumerate(part.tasks.script):
                task = ScriptTask(run=item) if isinstance(item, str) else item
                where = place_of(part.document, "script", number).span
                if self._is_wanted(task.when, part, where):
                    wanted.append((task, where))
        if "script" not in self._given():
            default = self._default(language.script if language else ())
            if default is not None:
                wanted.append((ScriptTask(run=default.run), self._language_place()))
        gates = [
            Gate(*runner.branch(self._state, task, self._config, Placed(self._shown(task), where)))
            for task, where in wanted
        ]
        test = self._manifest.test
        if test is not None:
            for number, item in enumerate(test.commands):
                task = ScriptTask(run=item) if isinstance(item, str) else item
                where = place_of(self._document, "test", "commands", number).span
                if self._is_wanted(task.when, parts[-1], where):
                    stage = f"{self._shown(task)} (test)"
                    gates.append(Gate(*runner.test(self._state, test, task, self._config, Placed(stage, where))))
        return gates

    def _shown(self, task: ScriptTask) -> str:
        text = task.run if isinstance(task.run, str) else "; ".join(task.run)
        name = task.name or " ".join(text.split())[:60]
        return f"validate {self._name}: {name}" if self._name else f"validate {name}"


def place_value(value: doc.Value, path: tuple[str | int, ...]) -> doc.Value:
    """The part of a document at `path`."""
    for step in path:
        if isinstance(value, doc.Mapping) and str(step) in value.items:
            value = value.items[str(step)]
        elif isinstance(value, doc.Sequence) and isinstance(step, int):
            value = value.items[step]
    return value
