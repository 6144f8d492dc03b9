"""SSH agents for RUN steps: a socket for each step, whose requests are passed on to the agent that is meant.

A step may list keys and have something signed. It may not add, remove or lock keys: such requests are answered with a
failure (draft-miller-ssh-agent, "Protocol Messages"). Keys given as files are loaded into an ssh-agent(1) of the
build's own, which ends with this process, however that ends.
"""

from __future__ import annotations

import os
import shutil
import socket
import stat
import struct
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Final

from boxwright.errors import BoxwrightError, MachineError, UsageError

_ALLOWED: Final = frozenset({11, 13})  # SSH_AGENTC_REQUEST_IDENTITIES, SSH_AGENTC_SIGN_REQUEST
_FAILURE: Final = struct.pack(">IB", 1, 5)
_LONGEST: Final = 1 << 18
_PATIENCE: Final = 10.0
# The shell ends the agent when it reads a line, or its input ends: then the build was killed, and it cleans up as well.
_SCRIPT: Final = (
    'ssh-agent -D -a "$1" >/dev/null 2>&1 & read -r line; said=$?; kill $!; wait; [ $said = 0 ] || rm -rf "$2"'
)


def parse_agents(given: tuple[str, ...], environment: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    """``--ssh ID[=SOCKET|KEY[,KEY]]``: for each id the paths. Without any it is the user's own agent.

    Raises UsageError.
    """
    found: dict[str, tuple[str, ...]] = {}
    for text in given:
        name, _, paths = text.partition("=")
        if not name or name in found:
            raise UsageError("usage.ssh", f"--ssh {text}: an id of its own is expected", hint="--ssh default=SOCKET")
        own = environment.get("SSH_AUTH_SOCK", "")
        if not paths and not own:
            hint = f"start ssh-agent, or name a key: --ssh {name}=FILE"
            raise UsageError("usage.ssh", f"--ssh {text}: SSH_AUTH_SOCK names no agent", hint=hint)
        found[name] = tuple(os.path.abspath(path) for path in (paths or own).split(","))
        for path in found[name]:
            if not os.path.exists(path):
                raise UsageError("usage.ssh", f"--ssh {text}: there is no {path}")
        if len(found[name]) > 1 and any(_is_socket(path) for path in found[name]):
            raise UsageError("usage.ssh", f"--ssh {text}: a socket stands alone, without keys")
    return found


def _is_socket(path: str) -> bool:
    return stat.S_ISSOCK(os.stat(path).st_mode)


class BuildAgents:
    """The agents of one build, by id. Any thread may ask for a socket; `close` ends what was started."""

    def __init__(self, given: Mapping[str, tuple[str, ...]]) -> None:
        self._given = given
        self._lock = threading.Lock()
        self._directory = ""
        self._started: dict[str, tuple[str, subprocess.Popen[bytes]]] = {}
        self._count = 0

    @contextmanager
    def socket(self, name: str, mode: int, uid: int, gid: int) -> Iterator[str | None]:
        """The path of a socket to the agent, as long as the context lasts; None where there is no such agent."""
        paths = self._given.get(name)
        if paths is None:
            yield None
            return
        with self._lock:
            agent = self._agent(name, paths)
            self._count += 1
            path = f"{self._place()}/{self._count}"
        listening = socket.socket(socket.AF_UNIX)
        try:
            listening.bind(path)
            os.chown(path, uid, gid)
            os.chmod(path, mode)
            listening.listen()
            threading.Thread(target=_accept, args=(listening, agent), daemon=True).start()
            yield path
        finally:
            with suppress(OSError):  # not listening yet
                listening.shutdown(socket.SHUT_RDWR)  # wakes the thread, which close alone does not
            listening.close()
            with suppress(FileNotFoundError):
                os.unlink(path)

    def close(self) -> None:
        """End the agents that were started."""
        for _, process in self._started.values():
            _end(process)
        self._started.clear()
        if self._directory:
            shutil.rmtree(self._directory, ignore_errors=True)
            self._directory = ""

    def _place(self) -> str:
        if not self._directory:
            self._directory = tempfile.mkdtemp(prefix="boxwright-ssh-")
        return self._directory

    def _agent(self, name: str, paths: tuple[str, ...]) -> str:
        """The socket of the agent itself."""
        if _is_socket(paths[0]):
            return paths[0]
        if name not in self._started:
            path = f"{self._place()}/agent-{len(self._started)}"
            process = _start(path)
            self._started[name] = (path, process)
            try:
                _load(path, paths)
            except BaseException:
                _end(process)
                del self._started[name]
                raise
        return self._started[name][0]


def _start(path: str) -> subprocess.Popen[bytes]:
    if not shutil.which("ssh-agent"):
        hint = "as root: apt-get install openssh-client; or give a socket: --ssh ID=SOCKET"
        raise MachineError("machine.no-ssh-agent", "ssh-agent, which holds keys for a build, is not there", hint=hint)
    process = subprocess.Popen(["sh", "-c", _SCRIPT, "sh", path, os.path.dirname(path)], stdin=subprocess.PIPE)
    deadline = time.monotonic() + _PATIENCE
    while not os.path.exists(path):
        if time.monotonic() > deadline or process.poll() is not None:
            _end(process)
            raise MachineError("machine.no-ssh-agent", "ssh-agent did not start")
        time.sleep(0.005)
    return process


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.stdin is not None:
        with suppress(BrokenPipeError):  # it has ended by itself
            process.stdin.write(b"\n")
            process.stdin.close()
    process.wait()


def _load(path: str, keys: tuple[str, ...]) -> None:
    environment = {**os.environ, "SSH_AUTH_SOCK": path, "SSH_ASKPASS_REQUIRE": "never"}
    done = subprocess.run(
        ["ssh-add", "-q", "--", *keys],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
        start_new_session=True,  # without a terminal to ask for a passphrase
    )
    if done.returncode:
        said = done.stderr.strip().splitlines()
        hint = "a key with a passphrase is used through an agent of your own: ssh-add KEY, then --ssh ID"
        message = f"the key can't be loaded: {said[-1] if said else ', '.join(keys)}"
        raise BoxwrightError("ssh.key", message, hint=hint)


def _accept(listening: socket.socket, agent: str) -> None:
    """Each connection in a thread of its own, until the socket is closed."""
    while True:
        try:
            client, _ = listening.accept()
        except OSError:
            return
        threading.Thread(target=_relay, args=(client, agent), daemon=True).start()


def _relay(client: socket.socket, agent: str) -> None:
    """Pass on what may be asked, one request and its answer after the other."""
    with client, socket.socket(socket.AF_UNIX) as behind, suppress(OSError, EOFError):
        behind.connect(agent)
        while True:
            request = _message(client)
            if not request or request[0] not in _ALLOWED:
                client.sendall(_FAILURE)
                continue
            behind.sendall(struct.pack(">I", len(request)) + request)
            answer = _message(behind)
            client.sendall(struct.pack(">I", len(answer)) + answer)


def _message(source: socket.socket) -> bytes:
    """One message without its length. Raises EOFError at the end, or where it is longer than agents take."""
    (length,) = struct.unpack(">I", _exactly(source, 4))
    if length > _LONGEST:
        raise EOFError
    return _exactly(source, length)


def _exactly(source: socket.socket, count: int) -> bytes:
    parts: list[bytes] = []
    while count:
        data = source.recv(count)
        if not data:
            raise EOFError
        parts.append(data)
        count -= len(data)
    return b"".join(parts)
