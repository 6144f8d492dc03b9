"""Docker, and podman through the same interface: states are images, steps are commands in a container.

Docker Engine API 1.41; podman serves it too ("podman system service").
"""

from __future__ import annotations

import base64
import contextlib
import io
import json
import os
import platform
import socket
import tarfile
import threading
from collections.abc import Callable, Collection, Iterator
from typing import TYPE_CHECKING, Any

from boxwright.engines.building.certificates import FILES, trusted
from boxwright.engines.building.owners import LABEL, is_abandoned, own_mark
from boxwright.engines.building.pause import PATH, pause_program
from boxwright.errors import BoxwrightError, MachineError
from boxwright.ports import Bind, BuildContainer, ContainerShape, EngineCommand, SeenPath, Tmpfs

if TYPE_CHECKING:
    import requests
    from docker import APIClient

REPOSITORY = "boxwright.local/build"
API = "1.41"
LIBPOD = "4.0.0"
LOOK_SECONDS = 0.1
SMALL = 16 << 20
PIECE = 1 << 20
NOT_FOUND = 404
FRAME_HEADER = 8
_TYPES = ((1 << 27, "symlink"), (1 << 31, "directory"), (0x7280000, "other"))
"""Bits of Go's os.FileMode."""


_WANTS_TLS = "HTTP request to an HTTPS server"


class DockerEngine:
    """A docker or podman at `address`: ``unix://``, or ``tcp://`` with `certificates`.

    `distant`: the socket leads to another machine.
    """

    def __init__(self, name: str, address: str, certificates: str = "", *, distant: bool = False) -> None:
        self.name = name
        self.is_local = address.startswith("unix:") and not distant
        self._address = address
        self._certificates = certificates
        self._clients = threading.local()
        self._opened: list[APIClient] = []
        # Podman asks a program in the container, unless it is given names of columns that it knows itself.
        self.top_format = "pid" if name == "podman" else None
        self.closing: Callable[[], None] = lambda: None

    def client(self) -> APIClient:
        """A connection of this thread. Raises MachineError `engine.unreachable`."""
        found: APIClient | None = getattr(self._clients, "client", None)
        if found is None:
            import docker

            tls: Any = trusted(self._address, self._certificates) if self._certificates else False
            with self.telling(f"{self.name} at {self._address}"):
                if self._address.startswith("unix:"):
                    _try(self._address.removeprefix("unix://"))
                found = docker.APIClient(base_url=self._address, version=API, timeout=600, tls=tls)
            if tls:
                # Else requests takes REQUESTS_CA_BUNDLE for who vouches for the server, in place of ca.pem.
                found.trust_env = False
            self._clients.client = found
            self._opened.append(found)
        return found

    @contextlib.contextmanager
    def telling(self, what: str) -> Iterator[None]:
        """Errors of the client as ours."""
        import docker
        import requests

        try:
            yield
        except docker.errors.APIError as error:
            text = f"{what}: {self.name} says: {error.explanation or error}"
            if "no space left" in text:
                raise BoxwrightError(
                    "engine.no-space", text, hint=f"make room where {self.name} keeps images"
                ) from error
            if _WANTS_TLS in text:
                raise MachineError("engine.certificate", text, hint=f"DOCKER_TLS_VERIFY=1, and {FILES}") from error
            raise BoxwrightError("engine.refused", text) from error
        except (docker.errors.DockerException, requests.exceptions.RequestException, OSError) as error:
            hint = "does it run, and may this user speak to it? `boxwright doctor` says more"
            raise MachineError("engine.unreachable", f"{what}: {error}", hint=hint) from error

    def check(self, answer: requests.Response, what: str) -> None:
        """Raise BoxwrightError `engine.refused` where the answer is a refusal."""
        if answer.status_code >= 400:
            raise BoxwrightError("engine.refused", f"{what}: {self.name} says: {answer.text[:500].strip()}")

    def states(self) -> set[str]:
        """The tags of our repository."""
        with self.telling("its images"):
            images = self.client().images(name=REPOSITORY)
        return {
            tag.rpartition(":")[2]
            for image in images
            for tag in image.get("RepoTags") or ()
            if tag.rpartition(":")[0].endswith(REPOSITORY)
        }

    def load(self, state: str, archive: str) -> None:
        """Import a tar as an image."""
        client = self.client()
        with self.telling("importing a tree"), open(archive, "rb") as file:
            # Podman keeps a copy for ever of what comes by docker's own call, and heeds no tag there.
            place, parameters = (
                (f"v{LIBPOD}/libpod/images/import", {"reference": f"{REPOSITORY}:{state}"})
                if self.name == "podman"
                else (f"v{API}/images/create", {"fromSrc": "-", "repo": REPOSITORY, "tag": state})
            )
            headers = {"Content-Type": "application/x-tar"}
            address = f"{client.base_url}/{place}"
            answer = client.post(address, params=parameters, data=file, headers=headers, timeout=600)
            self.check(answer, "importing a tree")
            if "errorDetail" in answer.text:  # docker has begun its answer before it knows
                raise BoxwrightError("engine.refused", f"importing a tree: {self.name} says: {answer.text[-500:]}")

    def start(self, state: str, shape: ContainerShape) -> BuildContainer:
        """Create and start one, whose first process waits."""
        client = self.client()
        with self.telling("a build container"):
            made = client.create_container(
                f"{REPOSITORY}:{state}",
                entrypoint=[f"/{PATH}"],
                command=[],
                hostname="boxwright",
                labels={LABEL: own_mark()},
                host_config=client.create_host_config(**self._host(shape)),
            )
            identifier: str = made["Id"]
            try:
                client.start(identifier)
            except BaseException:
                client.remove_container(identifier, force=True)
                raise
        return DockerContainer(self, identifier)

    def _host(self, shape: ContainerShape) -> dict[str, Any]:
        binds, tmpfs = [], {}
        for mount in shape.mounts:
            if isinstance(mount, Tmpfs):
                tmpfs[mount.target] = ""
            elif isinstance(mount, Bind):
                if self.is_local:
                    binds.append(f"{mount.source}:{mount.target}:{'ro' if mount.read_only else 'rw'}")
                elif mount.read_only:
                    raise BoxwrightError(
                        "engine.mount", f"{mount.target} can't be mounted on a distant {self.name}", hint="build here"
                    )
                else:
                    tmpfs[mount.target] = ""  # a cache may be empty at any time
        network = {"default": "bridge"}.get(shape.network, shape.network)
        hosts = {name: "host-gateway" if address == "host-gateway" else address for name, address in shape.hosts}
        return {"binds": binds, "tmpfs": tmpfs, "network_mode": network, "extra_hosts": hosts}

    def fetch(self, state: str, archive: str) -> str:
        """Export a container that was never started."""
        client = self.client()
        with self.telling("reading a tree"):
            made = client.create_container(f"{REPOSITORY}:{state}", entrypoint=[f"/{PATH}"], labels={LABEL: own_mark()})
            try:
                with open(archive, "xb") as file:
                    file.writelines(client.export(made["Id"], chunk_size=PIECE))
            finally:
                client.remove_container(made["Id"], force=True)
        return ""

    def forget(self, states: Collection[str]) -> None:
        """Remove their images."""
        for state in set(states) & self.states():
            with self.telling("removing a state"):
                self.client().remove_image(f"{REPOSITORY}:{state}", force=True, noprune=False)

    def sweep(self, owner: str = "") -> int:
        """Remove containers that nobody attends to."""
        client = self.client()
        removed = 0
        with self.telling("its containers"):
            for found in client.containers(all=True, filters={"label": LABEL}):
                whose = str((found.get("Labels") or {}).get(LABEL, ""))
                if whose == owner or (not owner and is_abandoned(whose)):
                    with contextlib.suppress(BoxwrightError), self.telling("a container"):
                        client.remove_container(found["Id"], force=True, v=True)
                        removed += 1
        return removed

    def close(self) -> None:
        """Close the connections."""
        for client in self._opened:
            client.close()
        self._opened.clear()
        self.closing()


class DockerContainer:
    """A build container."""

    def __init__(self, engine: DockerEngine, identifier: str) -> None:
        self._engine = engine
        self._id = identifier

    def execute(self, command: EngineCommand, output: Callable[[bytes], None], cancelled: Callable[[], bool]) -> int:
        """Run it. What it leaves running ends with it: the next step finds nothing that another build lacks."""
        client = self._engine.client()
        ended = threading.Event()
        watcher = threading.Thread(target=self._watch, args=(ended, cancelled), daemon=True)
        with self._engine.telling(command.argv[0] if command.argv else "a command"):
            started = client.exec_create(
                self._id,
                list(command.argv),
                environment=[f"{name}={value}" for name, value in command.env],
                workdir=command.cwd,
                user=command.user,
            )
            watcher.start()
            try:
                self._follow(client.exec_start(started["Id"], socket=True), output)
            finally:
                ended.set()
                watcher.join()
            if cancelled():
                raise KeyboardInterrupt
            status = client.exec_inspect(started["Id"])["ExitCode"]
            if len(client.top(self._id, self._engine.top_format).get("Processes") or ()) > 1:
                client.restart(self._id, timeout=0)
        return int(status)

    @staticmethod
    def _follow(opened: Any, output: Callable[[bytes], None]) -> None:  # noqa: ANN401 - which kind depends on the address
        """Hand on both streams until the command ends."""
        answer = opened._response  # noqa: SLF001 - docker's client keeps the answer with its socket, and nowhere else
        try:
            # Not the client's own reader: it waits for the socket while TLS, or the buffer, has the bytes already.
            for piece in frames(answer.raw._fp.fp):  # noqa: SLF001
                output(piece)
        finally:
            answer.close()
            opened.close()

    def _watch(self, ended: threading.Event, cancelled: Callable[[], bool]) -> None:
        """A connection of its own: the other one waits for output."""
        while not ended.wait(LOOK_SECONDS):
            if cancelled():
                with contextlib.suppress(BoxwrightError), self._engine.telling("a container"):
                    self._engine.client().kill(self._id)
                return

    def read(self, path: str) -> bytes | None:
        """A file's bytes: the first member of what is packed there."""
        client = self._engine.client()
        with self._engine.telling(path):
            answer = client.get(
                f"{client.base_url}/v{API}/containers/{self._id}/archive", params={"path": path}, stream=True
            )
            with contextlib.closing(answer):
                if answer.status_code == NOT_FOUND:
                    return None
                self._engine.check(answer, path)
                with tarfile.open(fileobj=_Raw(answer.iter_content(1 << 14)), mode="r|") as archive:
                    member = archive.next()
                    opened = archive.extractfile(member) if member and member.isreg() and member.size < SMALL else None
                    return opened.read() if opened else None

    def look(self, path: str) -> SeenPath | None:
        """What is there."""
        client = self._engine.client()
        with self._engine.telling(path):
            where = f"{client.base_url}/v{API}/containers/{self._id}/archive"
            answer = client.head(where, params={"path": path}, timeout=600)
            if answer.status_code == NOT_FOUND:
                return None
            self._engine.check(answer, path)
        try:
            found = json.loads(base64.b64decode(answer.headers["X-Docker-Container-Path-Stat"]))
            kind = next((name for bit, name in _TYPES if found["mode"] & bit), "file")
        except (KeyError, ValueError, TypeError) as error:
            raise BoxwrightError("engine.refused", f"{path}: {self._engine.name} does not say what it is") from error
        return SeenPath(kind, str(found.get("linkTarget", "")) if kind == "symlink" else "")

    def put(self, archive: str) -> None:
        """Unpack it at the root."""
        with self._engine.telling("files of a step"), open(archive, "rb") as file:
            self._engine.client().put_archive(self._id, "/", file)

    def commit(self, state: str) -> None:
        """As an image."""
        client = self._engine.client()
        with self._engine.telling("keeping a state"):
            answer = client.post(
                f"{client.base_url}/v{API}/commit",
                params={"container": self._id, "repo": REPOSITORY, "tag": state, "pause": "false"},
                json={},
            )
            self._engine.check(answer, "keeping a state")

    def remove(self) -> None:
        """Kill and remove it."""
        with self._engine.telling("a build container"):
            self._engine.client().remove_container(self._id, force=True, v=True)


def frames(stream: io.BufferedIOBase) -> Iterator[bytes]:
    """What both streams of a command say: eight bytes of header (which stream, how much), then that much.

    (Docker Engine API, "Attach to a container", stream format.) A stream that breaks off just ends.
    """
    while len(header := stream.read(FRAME_HEADER)) == FRAME_HEADER:
        left = int.from_bytes(header[4:], "big")
        while left and (piece := stream.read1(left)):
            left -= len(piece)
            yield piece


def _try(path: str) -> None:
    """Raise OSError where nobody listens: docker's client would forget its socket."""
    with socket.socket(socket.AF_UNIX) as tried:
        tried.connect(path)


class _Raw(io.RawIOBase):
    """Pieces as a file."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._left = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:  # noqa: ANN401 - any buffer
        if not self._left:
            self._left = next(self._pieces, b"")
        size = min(len(buffer), len(self._left))
        buffer[:size] = self._left[:size]
        self._left = self._left[size:]
        return size


def pause_member() -> tuple[str, bytes]:
    """The file that each tree needs for its first process: its path and bytes."""
    try:
        return PATH, pause_program(platform.machine())
    except KeyError:
        raise MachineError("engine.machine", f"no build containers on {os.uname().machine}") from None
