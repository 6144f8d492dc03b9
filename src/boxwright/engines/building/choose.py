"""The engine of a name and an address."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping

from boxwright.errors import MachineError, UsageError
from boxwright.ports import BuildEngine

NAMES = ("docker", "podman", "lxc", "lxd")
DOCKER = "unix:///var/run/docker.sock"
START_SECONDS = 20.0
SERVICE = 'podman system service --time=0 "$1" </dev/null & p=$!; cat >/dev/null; kill $p; wait $p; rm -rf "$2"'
"""Podman's service, and who ends it when its own input ends: also when this process is killed."""


def open_engine(name: str, address: str, environment: Mapping[str, str], directory: str) -> BuildEngine:
    """Open it. `address` is empty for the one of this machine; `directory` is for an engine without a daemon.

    Raises UsageError `engine.unknown`, MachineError `engine.unreachable`.
    """
    if name == "docker":
        from boxwright.engines.building.docker import DockerEngine

        where = address or environment.get("DOCKER_HOST") or DOCKER
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

    if address:
        return DockerEngine("podman", address)
    socket, stop = podman_service(environment)
    engine = DockerEngine("podman", f"unix://{socket}")
    engine.closing = stop
    return engine


def podman_service(environment: Mapping[str, str]) -> tuple[str, Callable[[], None]]:
    """Podman has no daemon: a service of our own on a socket of our own, and what stops it."""
    import tempfile

    if shutil.which("podman") is None:
        raise MachineError("engine.unreachable", "podman is not installed", hint="apt-get install podman")
    directory = tempfile.mkdtemp(prefix="boxwright-podman-")
    socket = f"{directory}/podman.sock"
    process = subprocess.Popen(
        ["sh", "-c", SERVICE, "sh", f"unix://{socket}", directory],
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
            raise MachineError("engine.unreachable", "podman's service does not start", hint="podman info says more")
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
