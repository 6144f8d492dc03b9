"""What is known of natively run containers. It stands on the disk alone; no process keeps it.

``containers/NAME/`` holds:

- ``config.json``: what was asked for; written once
- ``status.json``: which process it is, since when; written when it has started
- ``exit``: the exit status of its first process, written by that one's parent; empty while it runs
- ``log``: its standard output and error
- ``upper/``, ``work/``: its layer
- ``volumes/N/``: its own volumes
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

from boxwright.engines.forward import Forward
from boxwright.engines.names import made_up_name
from boxwright.engines.processes import ProcessMark, is_alive
from boxwright.errors import BoxwrightError, StoreError
from boxwright.files import try_lock

_GONE = ".gone-"
_ATTEMPTS = 100
_STALE_SECONDS = 60.0
_WRITING_SECONDS = 10.0
"""Longer than the parent of a process that has ended needs to write its exit status."""
_PAUSE_SECONDS = 0.002


class Mounted(NamedTuple):
    """A directory or file of the host at `target`. `volume` is its name, or empty."""

    source: str
    target: str
    read_only: bool = False
    volume: str = ""


class ContainerConfig(NamedTuple):
    """What a container is; never changes. `image` is the image's identity, `image_name` what the user called it.

    `network` may be ``container:NAME``, the one of another container. `linked` names containers that serve this one
    alone: they are stopped and removed with it. In their own configurations `beside` is its name. `labels` are whose it
    is, where a stack made it; `attachments` are the stack's networks that it is in, with its address there.
    """

    id: str
    name: str
    image: str
    image_name: str
    layers: tuple[str, ...]
    argv: tuple[str, ...]
    env: tuple[tuple[str, str], ...]
    cwd: str
    user: str
    hostname: str
    network: str
    ports: tuple[Forward, ...]
    mounts: tuple[Mounted, ...]
    created: int
    stop_signal: str = ""
    auto_remove: bool = False
    read_only: bool = False
    init: bool = False
    terminal: bool = False
    linked: tuple[str, ...] = ()
    beside: str = ""
    labels: tuple[tuple[str, str], ...] = ()
    attachments: tuple[tuple[str, str], ...] = ()


class ContainerStatus(NamedTuple):
    """A started container: its first process, and mount points that the sandbox made in its layer."""

    process: ProcessMark
    started: int
    made: tuple[tuple[str, bool], ...] = ()


class Container(NamedTuple):
    """A container as it was when it was looked at. `status` is None where it never started."""

    directory: str
    config: ContainerConfig
    status: ContainerStatus | None

    @property
    def name(self) -> str:
        """Its name."""
        return self.config.name

    @property
    def upper(self) -> str:
        """Its layer; empty for a read-only one."""
        return "" if self.config.read_only else f"{self.directory}/upper"

    @property
    def log(self) -> str:
        """What it wrote."""
        return f"{self.directory}/log"

    @property
    def exit_file(self) -> str:
        """Where its exit status is written."""
        return f"{self.directory}/exit"

    def is_running(self) -> bool:
        """Judged by its process alone: whatever was killed or restarted, this is right."""
        return self.status is not None and is_alive(self.status.process)

    def exit_code(self) -> int | None:
        """Once it has ended; None where nobody could write it down. Waits for its parent, which is just writing it.

        Somebody may have started it again since it was looked at: that one's end is not waited for.
        """
        until = time.monotonic() + _WRITING_SECONDS
        while True:
            try:
                with open(self.exit_file, encoding="ascii") as file:
                    fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                    text = file.read().strip()
            except FileNotFoundError:
                return None
            except BlockingIOError:
                if time.monotonic() >= until or self._is_started_again():
                    return None
                time.sleep(_PAUSE_SECONDS)
            else:
                return int(text) if text.isdecimal() else None

    def _is_started_again(self) -> bool:
        try:
            found = _read_json(f"{self.directory}/status.json")
            return found is not None and _status(found).process != (self.status.process if self.status else None)
        except (StoreError, KeyError, TypeError, ValueError, AttributeError):
            return False

    def ended(self) -> float:
        """When its exit status was written, or when it was made."""
        try:
            return os.stat(self.exit_file).st_mtime
        except FileNotFoundError:
            return self.config.created


class Records:
    """The containers below a directory. Names are unique since directories' names are."""

    def __init__(self, directory: str) -> None:
        self._directory = directory

    def place(self, name: str) -> str:
        """The directory of a container."""
        return f"{self._directory}/{name}"

    @contextmanager
    def reserve(self, name: str) -> Iterator[str]:
        """Take a name (empty: make one up); yields it. Everything goes again where the block fails.

        Raises BoxwrightError `container.name-taken`.
        """
        taken, held = self._take(name)
        try:
            yield taken
        except BaseException:
            self.discard(taken)
            raise
        finally:
            os.close(held)

    def _take(self, name: str) -> tuple[str, int]:
        """A directory of that name, and a descriptor that locks it until its record is written."""
        with self.lock("names"):
            for _ in range(_ATTEMPTS):
                tried = name or made_up_name()
                place = self.place(tried)
                if self._is_abandoned(place):
                    self.discard(tried)
                try:
                    os.mkdir(place, 0o700)
                except FileExistsError:
                    continue
                held = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                fcntl.flock(held, fcntl.LOCK_EX)
                return tried, held
        hint = f"'boxwright rm {name}' removes it; or choose another --name"
        raise BoxwrightError("container.name-taken", f"there is a container {name} already", hint=hint)

    @staticmethod
    def _is_abandoned(place: str) -> bool:
        """Whether a process was killed there before it wrote the record."""
        if os.path.exists(f"{place}/config.json"):
            return False
        try:
            held = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            return try_lock(held)
        finally:
            os.close(held)

    @contextmanager
    def lock(self, what: str) -> Iterator[None]:
        """Hold one of the locks among all processes: ``names`` or ``ports``."""
        held = os.open(self.place(f".{what}.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(held, fcntl.LOCK_EX)
            yield
        finally:
            os.close(held)

    def write_config(self, config: ContainerConfig) -> Container:
        """Record a new container."""
        directory = self.place(config.name)
        _write(f"{directory}/config.json", _plain(config))
        return Container(directory, config, None)

    def write_status(self, container: Container, status: ContainerStatus) -> Container:
        """Record that it has started."""
        _write(f"{container.directory}/status.json", _plain(status))
        return container._replace(status=status)

    def get(self, name: str) -> Container:
        """The container of a name, of an id, or of an id's beginning. Raises BoxwrightError `container.unknown`."""
        container = self.find(name)
        if container is None:
            hint = "'boxwright ps -a' lists those there are"
            raise BoxwrightError("container.unknown", f"there is no container {name!r}", hint=hint)
        return container

    def stale(self) -> list[Container]:
        """Containers that should have removed themselves when they ended: a kill or a restart kept them from it."""
        now = time.time()
        return [
            container
            for container in self.all()
            if container.config.auto_remove and not container.is_running() and container.ended() < now - _STALE_SECONDS
        ]

    def orphans(self) -> list[Container]:
        """Containers that were started to serve one that never came to be: who started both was killed in between."""
        return [it for it in self.all() if it.config.beside and self._is_free(it.config.beside)]

    def _is_free(self, name: str) -> bool:
        """Whether there is no container of this name, and nobody is making one."""
        place = self.place(name)
        return not os.path.isdir(place) or self._is_abandoned(place)

    def find(self, name: str) -> Container | None:
        """Like `get`, None where there is none."""
        if "/" not in name and not name.startswith(".") and (found := self._read(name)):
            return found
        if len(name) < 4:
            return None
        matching = [container for container in self.all() if container.config.id.startswith(name)]
        return matching[0] if len(matching) == 1 else None

    def all(self) -> list[Container]:
        """Every container that can be read, the newest first: a damaged one does not hinder the others."""
        return self.survey()[0]

    def survey(self) -> tuple[list[Container], list[StoreError]]:
        """Every container, the newest first, and what is wrong with those that can't be read."""
        try:
            names = sorted(name for name in os.listdir(self._directory) if not name.startswith("."))
        except (FileNotFoundError, NotADirectoryError):
            names = []
        found: list[Container] = []
        damaged: list[StoreError] = []
        for name in names:
            try:
                container = self._read(name)
            except StoreError as error:
                damaged.append(error)
            else:
                found += [container] if container else []
        return sorted(found, key=lambda container: (-container.config.created, container.name)), damaged

    def process_of(self, name: str) -> ProcessMark | None:
        """Which process a container is, also where the rest of its record is damaged. Raises `container.damaged`.

        None where it doesn't run; the error where it runs and nobody can tell as which process.
        """
        try:
            status = _read_json(f"{self.place(name)}/status.json")
            if status is not None:
                return _status(status).process
        except (StoreError, KeyError, TypeError, ValueError, AttributeError):
            pass  # the lock on the exit status tells
        try:
            with open(f"{self.place(name)}/exit", encoding="ascii") as file:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except FileNotFoundError:
            return None
        except BlockingIOError as error:
            message = f"the container {name} still runs, and its damaged record does not say as which process"
            hint = "end its processes by hand; ps(1) shows them"
            raise StoreError("container.damaged", message, hint=hint) from error
        return None

    def discard(self, name: str) -> bool:
        """Remove a container's directory; False where it is gone already. It must not run."""
        gone = self.place(f"{_GONE}{os.urandom(4).hex()}")
        try:
            os.rename(self.place(name), gone)
        except FileNotFoundError:
            return False
        shutil.rmtree(gone)
        return True

    def sweep(self) -> None:
        """Remove what a killed process was removing."""
        with suppress(FileNotFoundError):
            for name in os.listdir(self._directory):
                if name.startswith(_GONE):
                    shutil.rmtree(self.place(name), ignore_errors=True)

    def _read(self, name: str) -> Container | None:
        directory = self.place(name)
        config = _read_json(f"{directory}/config.json")
        if config is None:
            return None
        status = _read_json(f"{directory}/status.json")
        try:
            return Container(directory, _config(config), None if status is None else _status(status))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise _damaged(directory, repr(error)) from error


def _config(raw: dict[str, Any]) -> ContainerConfig:
    values = {name: raw[name] for name in ContainerConfig._fields}
    for name in ("labels", "attachments"):
        values[name] = tuple((key, value) for key, value in raw[name])
    values["linked"] = tuple(raw["linked"])
    values["layers"] = tuple(raw["layers"])
    values["argv"] = tuple(raw["argv"])
    values["env"] = tuple((key, value) for key, value in raw["env"])
    values["ports"] = tuple(Forward(**port) for port in raw["ports"])
    values["mounts"] = tuple(Mounted(**mount) for mount in raw["mounts"])
    return ContainerConfig(**values)


def _status(raw: dict[str, Any]) -> ContainerStatus:
    made = tuple((path, is_directory) for path, is_directory in raw["made"])
    return ContainerStatus(ProcessMark(**raw["process"]), raw["started"], made)


def _plain(value: object) -> object:
    """Named tuples as objects, also inside others."""
    if isinstance(value, tuple):
        if hasattr(value, "_asdict"):
            return {name: _plain(item) for name, item in value._asdict().items()}
        return [_plain(item) for item in value]
    return value


def as_fields(container: Container) -> dict[str, object]:
    """A container's configuration as JSON has it."""
    return {name: _plain(value) for name, value in container.config._asdict().items()}


def _write(path: str, content: object) -> None:
    temporary = f"{path}.new"
    with open(temporary, "w", encoding="utf-8", errors="surrogateescape") as file:
        json.dump(content, file)
    os.rename(temporary, path)


def _damaged(directory: str, why: str) -> StoreError:
    name = os.path.basename(directory)
    message = f"the record of the container {name} is damaged: {why}"
    return StoreError("container.damaged", message, hint=f"'boxwright rm -f {name}' removes it")


def _read_json(path: str) -> dict[str, Any] | None:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            content = json.load(file)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except ValueError as error:
        raise _damaged(os.path.dirname(path), f"{os.path.basename(path)}: {error}") from error
    if not isinstance(content, dict):
        raise _damaged(os.path.dirname(path), f"{os.path.basename(path)} holds no object")
    return content
