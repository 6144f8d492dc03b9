"""The engine of a name and an address."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping
from urllib.parse import urlsplit

from boxwright.errors import MachineError, UsageError
from boxwright.ports import BuildEngine

NAMES = ("docker", "podman", "lxc", "lxd")
DOCKER = "unix:///var/run/docker.sock"
START_SECONDS = 20.0
ATTENDED = 'd=$1; shift; "$@" </dev/null & p=$!; cat >/dev/null; kill $p; wait $p; rm -rf "$d"'
"""A program, and who ends it when its own input ends: also when this process is killed."""
SOCKETS = {"docker": "/var/run/docker.sock", "podman": "/run/podman/podman.sock"}


def open_engine(name: str, address: str, environment: Mapping[str, str], directory: str) -> BuildEngine:
    """Open it. `address` is empty for the one of this machine; `directory` is for an engine without a daemon.

    Raises UsageError `engine.unknown`, MachineError `engine.unreachable`.
    """
    if name == "docker":
        from boxwright.engines.building.docker import DockerEngine

        where = address or environment.get("DOCKER_HOST") or DOCKER
        if where.startswith("ssh://"):
            return _over_ssh(name, where, environment)
        verified = environment.get("DOCKER_TLS_VERIFY") and where.startswith("tcp:")
        home = f"{environment.get('HOME', '')}/.docker"
        return DockerEngine(name, where, environment.get("DOCKER_CERT_PATH", home) if verified else "")
    if name == "podman":
        return _podman(address or environment.get("CONTAINER_HOST", ""), environment)
    if name == "lxd":
        from boxwright.engines.building.lxd import LxdEngine
        from boxwright.engines.lxdclient.address import find_endpoint

        return LxdEngine(find_endpoint(address, environment), environment.get("BOXWRIGHT_LXD_POOL", ""))
    if name == "lxc":
        from boxwright.engines.building.lxc import LxcEngine

        return LxcEngine(f"{directory}/lxc")
    raise UsageError("engine.unknown", f"there is no engine {name!r}", hint=f"native, {', '.join(NAMES)}")


def _podman(address: str, environment: Mapping[str, str]) -> BuildEngine:
    from boxwright.engines.building.docker import DockerEngine

    if address.startswith("ssh://"):
        return _over_ssh("podman", address, environment)
    if address:
        return DockerEngine("podman", address)
    socket, stop = podman_service(environment)
    engine = DockerEngine("podman", f"unix://{socket}")
    engine.closing = stop
    return engine


def _over_ssh(name: str, address: str, environment: Mapping[str, str]) -> BuildEngine:
    """The engine's socket on another machine, brought here by the user's own ssh."""
    from boxwright.engines.building.docker import DockerEngine

    parts = urlsplit(address)
    host = f"{parts.username}@{parts.hostname}" if parts.username else f"{parts.hostname}"
    if not parts.hostname or host.startswith("-"):
        raise UsageError("engine.address", f"{address} names no machine", hint="ssh://USER@HOST[:PORT][/SOCKET]")
    port = ["-p", str(parts.port)] if parts.port else []
    distant = parts.path if parts.path.strip("/") else SOCKETS[name]
    options = ["-o", "BatchMode=yes", "-o", "ExitOnForwardFailure=yes", "-o", "ServerAliveInterval=5"]

    def command(socket: str) -> list[str]:
        return ["ssh", "-n", "-N", "-T", *options, *port, "-L", f"{socket}:{distant}", "--", host]

    socket, stop = _attended(command, environment, f"{name} at {address}: ssh does not reach it")
    engine = DockerEngine(name, f"unix://{socket}", distant=True)
    engine.closing = stop
    return engine


def podman_service(environment: Mapping[str, str]) -> tuple[str, Callable[[], None]]:
    """Podman has no daemon: a service of our own on a socket of our own, and what stops it."""
    if shutil.which("podman") is None:
        raise MachineError("engine.unreachable", "podman is not installed", hint="apt-get install podman")
    return _attended(
        lambda socket: ["podman", "system", "service", "--time=0", f"unix://{socket}"],
        environment,
        "podman's service does not start",
    )


def _attended(
    command: Callable[[str], list[str]], environment: Mapping[str, str], failed: str
) -> tuple[str, Callable[[], None]]:
    """A program that listens on a socket of ours, and what stops it; it also ends with this process."""
    import tempfile

    directory = tempfile.mkdtemp(prefix="boxwright-engine-")
    socket = f"{directory}/socket"
    process = subprocess.Popen(
        ["sh", "-c", ATTENDED, "sh", directory, *command(socket)],
        env=dict(environment),
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )

    def stop() -> None:
        process.communicate()

    until = time.monotonic() + START_SECONDS
    while not _answers(socket):
        if process.poll() is not None or time.monotonic() > until:
            stop()
            raise MachineError("engine.unreachable", failed, hint="does it answer on the command line?")
        time.sleep(0.02)
    return socket, stop


def _answers(path: str) -> bool:
    import socket

    with socket.socket(socket.AF_UNIX) as opened:
        try:
            opened.connect(path)
        except OSError:
            return False
    return os.path.exists(path)
