"""What is known at one line of a stage: configuration, variables, and the node reached so far."""

from __future__ import annotations

import posixpath
from collections import ChainMap
from typing import NamedTuple

from boxwright.frontends.recipe.scope import Scope
from boxwright.frontends.recipe.words import expand, expand_words
from boxwright.model.graph import Instructed
from boxwright.model.image import Database, ImageConfig
from boxwright.model.span import Span

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
DEFAULT_SHELL = ("/bin/sh", "-c")


class StageDatabase(NamedTuple):
    """A database of a stage: its server's image and how that is run, and the node of its data at this line."""

    database: Database
    server: int
    config: ImageConfig
    data: int


class StageState:
    """Changes from instruction to instruction. ENV wins over ARG (the reference, "Using ARG variables")."""

    def __init__(self, config: ImageConfig, node: int, scope: Scope, args: dict[str, str], hidden: set[str]) -> None:
        self.node = node
        self.scope = scope
        self.cmd_given = False
        self.config = config._replace(env=(), labels=(), onbuild=(), exposed=(), published=(), volumes=())
        self.onbuild = config.onbuild
        self.history: list[Instructed] = []
        self.databases: list[StageDatabase] = []
        self._env = dict(config.env)
        self._labels = dict(config.labels)
        # Dictionaries for their order; each instruction costs what it adds.
        self.exposed = dict.fromkeys(config.exposed)
        self.published = dict.fromkeys(config.published)
        self.volumes = dict.fromkeys(config.volumes)
        self._args = args
        self._hidden = hidden
        self._environment: tuple[tuple[str, str], ...] | None = None
        self.variables = ChainMap(self._env, self._args)
        if config.os == "linux" and "PATH" not in self._env:
            self._env["PATH"] = DEFAULT_PATH

    def child(self) -> StageState:
        """The state of a stage that starts from this one: it inherits the ARGs too."""
        child = StageState(self.image_config(), self.node, self.scope, dict(self._args), set(self._hidden))
        child.history = list(self.history)
        child.databases = list(self.databases)
        return child

    def image_config(self) -> ImageConfig:
        """The configuration reached so far."""
        return self.config._replace(
            env=tuple(self._env.items()),
            labels=tuple(self._labels.items()),
            onbuild=self.onbuild,
            exposed=tuple(self.exposed),
            published=tuple(self.published),
            volumes=tuple(self.volumes),
        )

    def environment(self) -> tuple[tuple[str, str], ...]:
        """The environment of a RUN step: ENV, and the ARGs that are in effect and may be seen by a key."""
        if self._environment is None:
            seen = [item for item in self._args.items() if item[0] not in self._env and item[0] not in self._hidden]
            self._environment = (*self._env.items(), *seen)
        return self._environment

    def set_env(self, name: str, value: str) -> None:
        """ENV."""
        if self._environment is not None and name not in self._env and not self._args:
            # A new name goes to the end: a recipe with thousands of ENV needs no more time than others.
            self._environment = (*self._environment, (name, value))
        else:
            self._environment = None
        self._env[name] = value

    def set_arg(self, name: str, value: str, *, hidden: bool) -> None:
        """ARG with a value."""
        self._args[name] = value
        self._environment = None
        if hidden:
            self._hidden.add(name)
        else:
            self._hidden.discard(name)

    def set_label(self, name: str, value: str) -> None:
        """LABEL."""
        self._labels[name] = value

    def expand(self, text: str, where: Span) -> str:
        """`text` with variables replaced and quotes taken off, as one word."""
        return expand(text, self.variables, where, self.scope.escape)

    def expand_words(self, text: str, where: Span) -> list[str]:
        """The same, as words."""
        return expand_words(text, self.variables, where, self.scope.escape)

    @property
    def directory(self) -> str:
        """The working directory."""
        return posixpath.normpath("/" + self.config.workdir.lstrip("/"))

    @property
    def shell(self) -> tuple[str, ...]:
        """The shell of the shell form."""
        return self.config.shell or DEFAULT_SHELL

    def absolute(self, path: str) -> str:
        """`path` from the root on; a trailing slash says directory and is kept, as ``.`` and ``..`` say it."""
        joined = posixpath.normpath(posixpath.join(self.directory, path))
        joined = "/" + joined.lstrip("/")
        is_directory = path.rpartition("/")[2] in {"", ".", ".."}
        return joined + "/" if is_directory and joined != "/" else joined
