"""Run another program with a small environment, hand on what it says, and leave nothing of it behind."""

from __future__ import annotations

import os
import selectors
import shutil
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from boxwright.errors import BoxwrightError, MachineError

PROGRAMS = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""Where programs are looked for, whatever the caller's PATH."""

_FILES = ("HOME", "TMPDIR", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME")
_CREDENTIALS = ("REGISTRY_AUTH_FILE", "DOCKER_CONFIG", "SSL_CERT_FILE")
_PROXIES = ("http_proxy", "https_proxy", "ftp_proxy", "all_proxy", "no_proxy")
_TAIL = 8 << 10
_PATIENCE = 5.0


@dataclass(frozen=True, slots=True)
class Finished:
    """How a program ended: its standard output, and the end of what it said on standard error."""

    status: int
    stdout: bytes
    tail: str


def clean_environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Where programs are, where the user's files are, the proxies, and nothing else."""
    kept = {name: os.environ[name] for name in (*_FILES, *_CREDENTIALS) if name in os.environ}
    for name in _PROXIES:
        kept.update({key: os.environ[key] for key in (name, name.upper()) if key in os.environ})
    return {
        **kept,
        "PATH": PROGRAMS,
        "LC_ALL": "C.UTF-8",
        "TZ": "UTC",
        **(extra or {}),
    }


def never() -> bool:
    """Nobody cancels this."""
    return False


def require_program(name: str, package: str) -> None:
    """Raise where a program is missing; `package` is Debian's that has it."""
    if shutil.which(name, path=PROGRAMS) is None:
        raise MachineError(f"machine.no-{name}", f"the program {name} is missing", hint=f"apt install {package}")


def run_program(
    argv: Sequence[str],
    *,
    package: str,
    output: Callable[[bytes], None] | None = None,
    cancelled: Callable[[], bool] = never,
    env: Mapping[str, str] | None = None,
) -> Finished:
    """Run a program to its end. `package` is as for `require_program`; `output` is told both streams.

    Without `output`, standard output is collected. However this is left, the program's process group is dead then.
    """
    require_program(argv[0], package)
    process = subprocess.Popen(
        list(argv),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=clean_environment(env),
        start_new_session=True,
    )
    ended = False
    try:
        finished = _listen(process, output, cancelled)
        ended = True
        return finished
    finally:
        _end(process, ended=ended)


def _listen(
    process: subprocess.Popen[bytes], output: Callable[[bytes], None] | None, cancelled: Callable[[], bool]
) -> Finished:
    collected: list[bytes] = []
    tail = b""
    if process.stdout is None or process.stderr is None:  # pragma: no cover - both are pipes
        raise RuntimeError("a program without pipes")
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        selector.register(process.stderr, selectors.EVENT_READ)
        while selector.get_map():
            for key, _ in selector.select(0.2):
                data = os.read(key.fd, 64 << 10)
                if not data:
                    selector.unregister(key.fileobj)
                    continue
                if output is not None:
                    output(data)
                elif key.fileobj is process.stdout:
                    collected.append(data)
                    continue
                tail = (tail + data)[-_TAIL:]
            if cancelled():
                raise BoxwrightError("build.cancelled", "cancelled")
    return Finished(process.wait(), b"".join(collected), tail.decode("utf-8", "replace").strip())


def _end(process: subprocess.Popen[bytes], *, ended: bool) -> None:
    if not ended:
        _signal(process, signal.SIGTERM)
        try:
            process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            _signal(process, signal.SIGKILL)
            process.wait()
        _signal(process, signal.SIGKILL)
    for stream in (process.stdout, process.stderr):
        if stream is not None:
            stream.close()


def _signal(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    try:
        os.killpg(process.pid, number)
    except ProcessLookupError:
        return
