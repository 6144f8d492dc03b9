"""A container definition's tasks become nodes: packages are composed, files copied, commands run, in order."""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from boxwright.frontends.container.content import aci_config, oci_config
from boxwright.frontends.container.packaging import Packaging
from boxwright.frontends.container.problem import of_containers, wrong
from boxwright.frontends.container.schema import ImageTask, PackageTask, RunTask, SyncTask, UserTask
from boxwright.frontends.container.sync import sync_steps
from boxwright.frontends.container.tasks import Placed, Tasks, read_tasks
from boxwright.frontends.container.wanted import ContainerFiles
from boxwright.frontends.package.convert import key_place, place_of
from boxwright.frontends.package.graph import PackageGraph
from boxwright.model.graph import Gate, Graph
from boxwright.model.image import ImageConfig
from boxwright.model.span import Span
from boxwright.model.step import PackageUser, Run, Scratch, Step
from boxwright.ports import Resolver

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
STAGE = "container"
_COMPONENT = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
ONE_EACH = "one-per-container"


class ContainerOptions(NamedTuple):
    """What the command line says. `variables` win over those of the file; `test`: the packages' tests must pass."""

    platform: str
    variables: Mapping[str, str] = MappingProxyType({})
    labels: tuple[tuple[str, str], ...] = ()
    test: bool = False


class ContainerImage(NamedTuple):
    """An image that the definition asks for. `manifest` is that of an ACI; `output` where it goes, empty: by name."""

    type: str
    config: ImageConfig
    manifest: str
    output: str
    where: Span


class ContainerGraph(NamedTuple):
    """The graph of a container. `packages` are the nodes that its tasks name, `composed` all that are in it.

    `title` is ``AUTHOR/NAME-VERSION``. With `one_each` every composed package becomes an image of its own.
    """

    graph: Graph
    packages: tuple[int, ...]
    composed: tuple[int, ...]
    images: tuple[ContainerImage, ...]
    author: str
    name: str
    version: str
    one_each: bool

    @property
    def title(self) -> str:
        """As the transcript names it."""
        text = f"{self.name}-{self.version}" if self.version else self.name
        return f"{self.author}/{text}" if self.author else text


def build_container(
    text: str, file: str, files: ContainerFiles, packages: PackageGraph, resolver: Resolver, options: ContainerOptions
) -> ContainerGraph:
    """The graph of a definition. Raises DefinitionError with the place of what is wrong."""
    read = read_tasks(text, file, options.variables)
    with of_containers(file):
        return _Builder(file, files, packages, resolver, options).build(read)


class _Builder:
    """One definition being turned into nodes."""

    def __init__(
        self,
        file: str,
        files: ContainerFiles,
        packages: PackageGraph,
        resolver: Resolver,
        options: ContainerOptions,
    ) -> None:
        self._file = file
        self._files = files
        self._packages = packages
        self._resolver = resolver
        self._options = options
        self._one_each = False
        self._config = ImageConfig(options.platform.split("/")[1], env=(("PATH", DEFAULT_PATH),))
        self._state = -1
        self._scratch = True
        self._packaging = Packaging(packages, files)
        self._images: list[tuple[Placed, ImageConfig]] = []

    def build(self, read: Tasks) -> ContainerGraph:
        self._one_each = any(task.content == ONE_EACH for task in read.tasks if task.key == "package")
        for number, task in enumerate(read.tasks):
            if task.key == "base":
                self._base(task, first=number == 0)
            elif task.key == "package":
                self._package(task)
            elif task.key == "sync":
                self._sync(task)
            elif task.key == "run":
                self._run(task)
            elif task.key == "user":
                self._user(task)
            else:
                self._images.append((task, self._config))
        self._flush()
        self._start()
        names = {key: _text(read.variables.variables.get(key, "")) for key in ("author", "name", "version")}
        directory = os.path.basename(os.path.dirname(os.path.abspath(self._file)))
        labels = tuple(sorted({**dict(self._config.labels), **dict(self._options.labels)}.items()))
        self._config = self._config._replace(labels=labels, author=self._config.author or names["author"])
        images = tuple(self._image(task) for task, _ in self._images)
        config = images[0].config if images else self._config
        gates = self._tests() if self._options.test else ()
        return ContainerGraph(
            self._packages.graph(self._state, config)._replace(gates=gates),
            tuple(self._packaging.asked),
            tuple(self._packaging.composed),
            images,
            names["author"],
            names["name"] or directory,
            names["version"],
            self._one_each,
        )

    def _tests(self) -> tuple[Gate, ...]:
        """The tests of the packages that tasks name: without them there is no image."""
        tests = {self._packages.name(place): self._packages.add_test(place) for place in self._packaging.asked}
        return tuple(Gate(name, node) for name, node in tests.items() if node not in self._packaging.asked)

    def _base(self, task: Placed, *, first: bool) -> None:
        if not first:
            raise wrong("base", "`base` is the first task: everything else is laid on it", task.where)
        name = str(task.content)
        if name == "scratch":
            return
        resolved = self._resolver.base(name, self._options.platform, task.where)
        self._state = self._packages.add_node(resolved.step, (), f"base {name} ({resolved.shown})", STAGE, task.where)
        self._scratch = False
        path = dict(resolved.config.env).get("PATH", DEFAULT_PATH)
        env = tuple({"PATH": path, **dict(resolved.config.env)}.items())
        self._config = resolved.config._replace(env=env, onbuild=())

    def _start(self) -> int:
        """The state that the next task starts from."""
        if self._state < 0:
            self._state = self._packages.add_node(Scratch(), (), "scratch", STAGE, Span(self._file, 1))
        return self._state

    def _add(self, step: Step, title: str, where: Span, *inputs: int) -> None:
        self._state = self._packages.add_node(step, (self._start(), *inputs), title, STAGE, where)

    def _package(self, task: Placed) -> None:
        if isinstance(task.content, PackageTask):
            self._packaging.ask(task.content, task.value, task.where, "container.yaml names it")

    def _flush(self) -> None:
        """Compose the packages and users that were gathered."""
        overlay = self._one_each and self._scratch and self._state < 0
        made = self._packaging.flush(overlay=overlay)
        if made is not None:
            self._add(made.step, made.title, made.where, *made.inputs)

    def _sync(self, task: Placed) -> None:
        self._flush()
        content = task.content
        assert isinstance(content, SyncTask)  # noqa: S101 - the schema says so
        for step in sync_steps(content, task, self._files):
            self._add(step, f"sync {content.src} {content.dest}", task.where)

    def _run(self, task: Placed) -> None:
        self._flush()
        content = task.content
        run = RunTask(command=content) if isinstance(content, str) else content
        assert isinstance(run, RunTask)  # noqa: S101 - the schema says so
        argv = ("/bin/sh", "-c", run.command) if isinstance(run.command, str) else run.command
        env = tuple({**dict(self._config.env), **run.environment}.items())
        step = Run(argv, env, run.directory, run.user or self._config.user, run.network)
        shown = run.command if isinstance(run.command, str) else " ".join(run.command)
        self._add(step, f"run {shown}", task.where)

    def _user(self, task: Placed) -> None:
        content = task.content
        if isinstance(content, str):
            self._flush()
            self._config = self._config._replace(user=content)
            return
        assert isinstance(content, UserTask)  # noqa: S101 - the schema says so
        group = content.group or content.name
        gid = content.uid if content.gid is None else content.gid
        user = PackageUser(content.name, content.uid, gid, group, content.home, content.shell)
        self._packaging.add_user(user, task.where)

    def _image(self, task: Placed) -> ContainerImage:
        content = task.content
        assert isinstance(content, ImageTask)  # noqa: S101 - the schema says so
        where = place_of(task.value, "content").span
        config, manifest = self._config, ""
        if content.type == "aci":
            if not content.content:
                where = key_place(task.value, "type").span
                raise wrong("missing-key", "an image of type aci has its manifest as `content`", where)
            config, manifest = aci_config(content.content, config, where)
        elif content.content:
            config = oci_config(content.content, config, where)
        output = content.output and posixpath.normpath(content.output)
        return ContainerImage(content.type, config, manifest, output, task.where)


def _text(value: str | tuple[str, ...]) -> str:
    return value if isinstance(value, str) else " ".join(value)


def image_tag(container: ContainerGraph) -> str:
    """The name that the image gets where the command line gives none: ``AUTHOR/NAME:VERSION`` as registries want it."""
    path = "/".join(filter(None, (_component(container.author), _component(container.name))))
    version = re.sub(r"[^A-Za-z0-9_.-]", "-", container.version).lstrip(".-")[:128]
    return f"{path or 'container'}:{version or 'latest'}"


def package_tag(name: str, version: str) -> str:
    """The name of the image that one package becomes: its own, as far as registries have such names."""
    parts = [re.sub(r"[^a-z0-9._-]", "-", part) for part in name.split("/")]
    path = "/".join(part if re.fullmatch(_COMPONENT, part) else _component(part) or "package" for part in parts)
    return f"{path}:{re.sub(r'[^A-Za-z0-9_.-]', '-', version)[:128]}"


def _component(text: str) -> str:
    return re.sub(
        r"[^a-z0-9]+", lambda found: found[0] if found[0] in {".", "_", "-", "__"} else "-", text.lower()
    ).strip("-._")
