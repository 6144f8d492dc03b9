"""Recipes as manifests, and manifests as recipes: by way of the graph that both become.

What one of them can't say is a loss, which is named with its place.
"""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from boxwright.frontends.manifest.made import BuiltEntry, ManifestGraph
from boxwright.model.graph import Graph, Node
from boxwright.model.image import ImageConfig, Port
from boxwright.model.span import Span
from boxwright.model.step import (
    Base,
    ContextSource,
    Copy,
    InlineSource,
    MakeDirectory,
    Mount,
    Run,
    Scratch,
    ServiceData,
)
from boxwright.ports import ResolvedBase

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
SHELL = ("/bin/sh", "-c")
_OCTAL = re.compile(r"[0-7]{3,4}")
_UNITS = ((3_600_000_000_000, "h"), (60_000_000_000, "m"), (1_000_000_000, "s"), (1_000_000, "ms"))


class Loss(NamedTuple):
    """Something that the other kind of definition can't say."""

    where: Span
    what: str


class Converted(NamedTuple):
    """The other definition's text, what is lost, and the names that only the command line can give the image then."""

    text: str
    losses: tuple[Loss, ...]
    names: tuple[str, ...] = ()


class PlainBases:
    """Says of a base what every base is, and asks nobody: what a definition doesn't say itself is not in its text."""

    def base(self, name: str, platform: str, where: Span) -> ResolvedBase:
        """A base by its name."""
        config = ImageConfig(platform.split("/")[1], env=(("PATH", DEFAULT_PATH),))
        return ResolvedBase(Base("registry", name, platform), config, name)

    def recipe(self, name: str) -> tuple[str, str]:
        """A recipe that comes with the program."""
        from boxwright.app.recipes import own_recipe

        return own_recipe(name)


def line_of(graph: Graph, target: int) -> list[int]:
    """The nodes from where an image starts to `target`, each standing on the one before it."""
    found = [target]
    while graph.nodes[found[-1]].inputs:
        found.append(graph.nodes[found[-1]].inputs[0])
    return found[::-1]


def _base_name(node: Node) -> str:
    return "scratch" if isinstance(node.step, Scratch) else node.step.name if isinstance(node.step, Base) else ""


def _own_env(config: ImageConfig) -> dict[str, str]:
    return {name: value for name, value in config.env if (name, value) != ("PATH", DEFAULT_PATH)}


# A recipe as a manifest ----------------------------------------------------------------------------------------------


def to_manifest(graph: Graph, name: str) -> Converted:
    """The manifest of a recipe's graph."""
    losses: list[Loss] = []
    line = line_of(graph, graph.target)
    nodes = [graph.nodes[number] for number in line]
    whole: dict[str, object] = {"image": _base_name(nodes[0])}
    whole.update(_settings(graph.config))
    whole["install"] = [task for node in nodes[1:] for task in _tasks(node, graph.config, losses)]
    script = []
    for gate in graph.gates:
        branch = line_of(graph, gate.node)
        if branch[: len(line)] != line:
            where = graph.nodes[gate.node].span
            losses.append(Loss(where, "a validation that doesn't stand on the end of the image"))
            continue
        runs = [task for number in branch[len(line) :] for task in _tasks(graph.nodes[number], graph.config, losses)]
        texts = [task if isinstance(task, str) else task.get("run") for task in runs]
        if not all(isinstance(text, str) for text in texts):
            losses.append(Loss(graph.nodes[gate.node].span, "a validation that does more than running commands"))
        script.append({"name": gate.stage.removeprefix("validate "), "run": [text for text in texts if text]})
    if script:
        whole["script"] = script
    if graph.databases or graph.config.databases:
        losses.append(Loss(nodes[0].span, "DBASE keeps its content with the image; `services` don't"))
    if graph.config.onbuild:
        losses.append(Loss(nodes[0].span, "ONBUILD"))
    whole["artifact"] = f"{name}:latest"
    kept = {key: value for key, value in whole.items() if value}
    return Converted(_yaml(kept), tuple(dict.fromkeys(losses)))


def _yaml(whole: Mapping[str, object]) -> str:
    written = block_yaml(dict(whole))
    # What looks like a template is text here.
    return f"{{% raw %}}\n{written}{{% endraw %}}\n" if any(it in written for it in ("{{", "{%", "{#")) else written


def block_yaml(value: object) -> str:
    """A value as YAML in blocks, in the order in which it is given."""
    import yaml

    class Dumper(yaml.SafeDumper):
        """Texts of several lines as blocks."""

    def text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
        return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value else None)

    Dumper.add_representer(str, text)
    return yaml.dump(value, Dumper=Dumper, sort_keys=False, width=1_000_000, allow_unicode=True)


def _settings(config: ImageConfig) -> dict[str, object]:
    found: dict[str, object] = {
        "env": _own_env(config),
        "directory": config.workdir,
        "user": config.user,
        "entrypoint": list(config.entrypoint or ()),
        "command": list(config.cmd or ()),
        "expose": [_port(port) for port in config.exposed if port._replace(host=0) not in _plain(config.published)],
        "ports": [_port(port) for port in config.published],
        "volumes": list(config.volumes),
        "labels": dict(config.labels),
        "stop-signal": config.stop_signal,
        "shell": list(config.shell or ()),
        "author": config.author,
    }
    health = config.healthcheck
    if health is not None and health.test[:1] != ("NONE",):
        command = health.test[1] if health.test[0] == "CMD-SHELL" else list(health.test[1:])
        times = {"interval": health.interval, "timeout": health.timeout, "start-period": health.start_period}
        check: dict[str, object] = {"command": command}
        check.update({key: duration(value) for key, value in times.items() if value})
        if health.retries:
            check["retries"] = health.retries
        found["healthcheck"] = check
    return found


def _plain(ports: tuple[Port, ...]) -> tuple[Port, ...]:
    return tuple(port._replace(host=0) for port in ports)


def _port(port: Port) -> str:
    host = f"{port.host}:" if port.host else ""
    return f"{host}{port.container}" + ("" if port.protocol == "tcp" else f"/{port.protocol}")


def duration(nanoseconds: int) -> str:
    """Such as 30s."""
    unit, name = next((it for it in _UNITS if nanoseconds % it[0] == 0), _UNITS[-1])
    return f"{nanoseconds // unit}{name}"


def _tasks(node: Node, config: ImageConfig, losses: list[Loss]) -> Iterator[str | dict[str, object]]:
    step = node.step
    if isinstance(step, MakeDirectory):
        yield {"mkdir": step.path, **({"user": step.owner} if step.owner else {})}
    elif isinstance(step, Copy):
        for what, is_so in (("--exclude", step.exclude), ("--parents", step.parents), ("unpacking", step.unpack)):
            if is_so:
                losses.append(Loss(node.span, f"{what} of COPY and ADD"))
        for source in step.sources:
            if not isinstance(source, ContextSource):
                losses.append(Loss(node.span, f"{node.title}: what a manifest copies lies beside it"))
                continue
            yield from _copies(step, source, node, losses)
    elif isinstance(step, Run):
        yield _run(step, node, config, losses)
    elif not isinstance(step, ServiceData):
        losses.append(Loss(node.span, node.title))


def _copies(step: Copy, source: ContextSource, node: Node, losses: list[Loss]) -> Iterator[dict[str, object]]:
    if source.context:
        losses.append(Loss(node.span, f"the build context {source.context}"))
    if step.mode and not _OCTAL.fullmatch(step.mode):
        losses.append(Loss(node.span, f"--chmod={step.mode}, which is not octal"))
    for path in source.paths:
        if any(char in path for char in "*?["):
            losses.append(Loss(node.span, f"the pattern {path}"))
        task: dict[str, object] = {"src": path.lstrip("/") or ".", "dest": step.destination}
        if step.mode:
            task["mode"] = step.mode
        if step.owner:
            task["owner"] = step.owner
        yield {"file": task}


def _run(step: Run, node: Node, config: ImageConfig, losses: list[Loss]) -> str | dict[str, object]:
    for what, is_so in (
        ("mounts", step.mounts),
        ("a document on standard input", step.stdin),
        ("--security", step.security != "sandbox"),
        ("a database (DBASE)", step.services),
    ):
        if is_so:
            losses.append(Loss(node.span, f"{what} of RUN"))
    end = dict(config.env)
    given = dict(step.env)
    unseen = [name for name in end if name not in given]
    if unseen:
        losses.append(Loss(node.span, f"this command doesn't see {', '.join(unseen)}, set below it; a manifest's do"))
    shell = config.shell or SHELL
    text: object = step.argv[-1] if step.argv[:-1] == shell else list(step.argv)
    more: dict[str, object] = {
        "user": step.user or None,
        "directory": step.cwd if step.cwd != (config.workdir or "/") else None,
        "environment": {name: value for name, value in step.env if end.get(name) != value} or None,
        "network": step.network if step.network != "default" else None,
    }
    kept = {key: value for key, value in more.items() if value is not None}
    return {"run": text, **kept} if kept or not isinstance(text, str) else text


# A manifest as a recipe ----------------------------------------------------------------------------------------------


def to_recipe(manifest: ManifestGraph) -> Converted:
    """The recipe of a manifest's graph. PORT is ours alone: the file is to be called Recipe, or is headed so."""
    entry = manifest.entries[0]
    graph = manifest.graph
    writer = _RecipeWriter(graph, entry)
    if len(manifest.entries) > 1:
        writer.lose(graph.nodes[entry.target].span, "a matrix: choose an entry with --matrix")
    return writer.write()


class _RecipeWriter:
    def __init__(self, graph: Graph, entry: BuiltEntry) -> None:
        self._graph = graph
        self._entry = entry
        self._lines: list[str] = []
        self._losses: list[Loss] = []
        self._user = ""
        self._directory = "/"

    def lose(self, where: Span, what: str) -> None:
        self._losses.append(Loss(where, what))

    def write(self) -> Converted:
        config = self._entry.config
        line = line_of(self._graph, self._entry.target)
        if config.published:
            self._lines.append("# syntax=boxwright")
        self._lines.append(f"FROM {_base_name(self._graph.nodes[line[0]])} AS image")
        if config.shell:
            self._lines.append(f"SHELL {json.dumps(list(config.shell))}")
        for name, value in _own_env(config).items():
            self._lines.append(f"ENV {name}={_quoted(value)}")
        for number in line[1:]:
            self._step(self._graph.nodes[number])
        self._end(config)
        for position in self._entry.gates:
            self._validation(position, line)
        return Converted("\n".join(self._lines) + "\n", tuple(dict.fromkeys(self._losses)), self._entry.names)

    def _step(self, node: Node) -> None:
        step = node.step
        if isinstance(step, Run):
            self._run(step, node)
        elif isinstance(step, Copy):
            self._copy(step, node)
        elif isinstance(step, MakeDirectory):
            before = self._directory
            self._place(step.owner, step.path, node)
            self._directory = before if before == step.path else step.path
        elif not isinstance(step, ServiceData):
            self.lose(node.span, node.title)

    def _place(self, user: str, directory: str, node: Node) -> None:
        if user != self._user:
            self._lines.append(f"USER {user or 'root'}")
            self._user = user
        if directory != self._directory:
            self._lines.append(f"WORKDIR {directory}")
            self._directory = directory

    def _run(self, step: Run, node: Node) -> None:
        if step.services:
            self.lose(node.span, f"{node.title}: services beside it")
        self._place(step.user, step.cwd, node)
        flags = [f"--network={step.network} "] if step.network != "default" else []
        kept = [mount for mount in step.mounts if not _is_elsewhere(mount)]
        flags += [f"--mount={_mount(mount)} " for mount in kept]
        if len(kept) < len(step.mounts):
            self.lose(node.span, "a toolbox that is no directory of the project")
        own = dict(self._entry.config.env)
        more = "".join(f"{name}={_shell_quoted(value)} " for name, value in step.env if own.get(name) != value)
        shell = self._entry.config.shell or SHELL
        head = f"RUN {''.join(flags)}"
        if step.argv[:-1] == shell:
            text = f"export {more}; {step.argv[-1]}" if more else step.argv[-1]
            self._lines.append(f"{head}{text}" if "\n" not in text.strip() else f"{head}<<'END'\n{text.rstrip()}\nEND")
        else:
            if more:
                self.lose(node.span, f"{node.title}: variables of its own")
            self._lines.append(f"{head}{json.dumps(list(step.argv))}")

    def _copy(self, step: Copy, node: Node) -> None:
        flags = (f"--chown={step.owner} " if step.owner else "") + (f"--chmod={step.mode} " if step.mode else "")
        flags += "".join(f"--exclude={pattern} " for pattern in step.exclude)
        for source in step.sources:
            if isinstance(source, InlineSource):
                if not source.text.endswith("\n") or "\nEND\n" in f"\n{source.text}":
                    self.lose(node.span, f"{step.destination}: a document ends with a line")
                self._lines.append(f"COPY {flags}<<'END' {step.destination}\n{source.text.rstrip(chr(10))}\nEND")
            elif isinstance(source, ContextSource) and not source.context:
                words = [posixpath.join(".", path.lstrip("/")) or "." for path in source.paths]
                self._lines.append(f"COPY {flags}{json.dumps([*words, step.destination])}")
            else:
                self.lose(node.span, f"{node.title}: files that don't lie beside the manifest")

    def _end(self, config: ImageConfig) -> None:
        self._place(config.user, config.workdir or "/", self._graph.nodes[self._entry.target])
        published = _plain(config.published)
        self._lines += [f"EXPOSE {_port(port)}" for port in config.exposed if port not in published]
        self._lines += [f"PORT {_port(port)}" for port in config.published]
        if config.volumes:
            self._lines.append(f"VOLUME {json.dumps(list(config.volumes))}")
        self._lines += [f"LABEL {name}={_quoted(value)}" for name, value in config.labels]
        if config.stop_signal:
            self._lines.append(f"STOPSIGNAL {config.stop_signal}")
        health = config.healthcheck
        if health is not None:
            times = {"interval": health.interval, "timeout": health.timeout, "start-period": health.start_period}
            flags = "".join(f"--{name}={duration(value)} " for name, value in times.items() if value)
            flags += f"--retries={health.retries} " if health.retries else ""
            command = health.test[1] if health.test[0] == "CMD-SHELL" else json.dumps(list(health.test[1:]))
            self._lines.append(f"HEALTHCHECK {flags}CMD {command}")
        if config.entrypoint is not None:
            self._lines.append(f"ENTRYPOINT {json.dumps(list(config.entrypoint))}")
        if config.cmd is not None:
            self._lines.append(f"CMD {json.dumps(list(config.cmd))}")
        if config.author:
            self._lines.append(f"MAINTAINER {config.author}")

    def _validation(self, position: int, line: list[int]) -> None:
        branch = line_of(self._graph, position)
        node = self._graph.nodes[position]
        if node.stage.endswith("(test)"):
            self.lose(node.span, f"{node.title}: a test of the running image")
            return
        name = re.sub(r"[^a-z0-9_.-]+", "-", node.stage.removeprefix("validate ").lower()).strip("-.")[:40]
        self._lines += ["", "# validate", f"FROM image AS check-{name or position}"]
        self._user, self._directory = self._entry.config.user, self._entry.config.workdir or "/"
        for number in branch[len(line) :]:
            self._step(self._graph.nodes[number])


def _is_elsewhere(mount: Mount) -> bool:
    """Whether it shows an image, or a directory that is no part of the build context."""
    options = dict(mount.options)
    return "position" in options or bool(options.get("context"))


def _mount(mount: Mount) -> str:
    options = {**dict(mount.options), "target": mount.target}
    words = [f"{name}={value}" for name, value in options.items()]
    return ",".join((f"type={mount.kind}", *(f'"{word}"' if "," in word or " " in word else word for word in words)))


def _quoted(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("$", "\\$")
    return f'"{escaped}"'


def _shell_quoted(value: str) -> str:
    import shlex

    return shlex.quote(value)
