"""The sandbox of package builds: bubblewrap(1) over a read-only tree, without network, as a user of its own.

The tree is an overlay of layers. It is mounted by a thread in a mount namespace of that thread's own, so that it goes
when the thread and what it started end, in whatever way.
"""

from __future__ import annotations

import os
import selectors
import shutil
import signal
import stat
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache

from boxwright.errors import MachineError, StepError
from boxwright.files import write_all
from boxwright.ports import ActionSpec, ExitStatus
from boxwright.sandbox import syscalls

HOSTNAME = "boxwright"
BUILD_ID = "1000"
MOST_LOWERS = 490
POLL_SECONDS = 0.2
CHUNK = 1 << 16
_NOT_STARTED = 126


def require_bubblewrap() -> None:
    """Raise where the program is not there."""
    _bubblewrap()


@cache
def _bubblewrap() -> str:
    """The program's path on this machine: what a definition calls PATH has no say in it."""
    found = shutil.which("bwrap")
    if found is None:
        raise MachineError("machine.no-bwrap", "packages are built by bubblewrap, which is not here",
                           hint="apt install bubblewrap")  # fmt: skip
    return os.path.abspath(found)


def run_build(spec: ActionSpec, output: Callable[[bytes], None], cancelled: Callable[[], bool]) -> ExitStatus:
    """Run it to its end, handing on what it writes; when cancelled everything in it is killed."""
    result: list[ExitStatus | BaseException] = []

    def work() -> None:
        try:
            result.append(_run(spec, output, cancelled))
        except BaseException as error:  # noqa: BLE001 - handed to the thread that waits
            result.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join()
    if isinstance(result[0], BaseException):
        raise result[0]
    return result[0]


def _run(spec: ActionSpec, output: Callable[[bytes], None], cancelled: Callable[[], bool]) -> ExitStatus:
    program, root = _bubblewrap(), _mount_tree(spec)
    streams = None if spec.interactive else subprocess.PIPE
    with _options(spec, root) as (words, descriptors):
        try:
            process = subprocess.Popen(
                [program, *words, "--", *spec.argv],
                env={},
                stdin=None if spec.interactive else subprocess.DEVNULL,
                stdout=streams,
                stderr=None if spec.interactive else subprocess.STDOUT,
                start_new_session=not spec.interactive,
                pass_fds=descriptors,
            )
        except OSError as error:
            message = f"the build can't be started: {error.strerror}"
            raise StepError("sandbox.start", message, status=_NOT_STARTED) from error
    try:
        if process.stdout is not None:
            _listen(process.stdout.fileno(), output, cancelled)
        code = process.wait() if not cancelled() else _stop(process)
    finally:
        if process.poll() is None:
            _stop(process)
        if process.stdout is not None:
            process.stdout.close()
    if spec.output and not code and not spec.interactive and not cancelled():
        _take_output(spec)
    return ExitStatus(code if code >= 0 else 128 - code)


def _take_output(spec: ActionSpec) -> None:
    """Put the one file that counts into a new directory in the old one's place.

    From then on its path is this program's and no link, pipe or device of the build's: whoever reads it may open it.
    """
    directory, name = os.path.split(f"{spec.work}/{spec.output}")
    aside = f"{spec.mount}-output"
    try:
        descriptor = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            os.rename(name, aside, src_dir_fd=descriptor)
        finally:
            os.close(descriptor)
        found = "" if stat.S_ISREG(os.lstat(aside).st_mode) else "it is no file"
        os.rename(directory, f"{spec.mount}-left")
        os.mkdir(directory)
        os.rename(aside, f"{directory}/{name}")
    except OSError as error:
        found = error.strerror or str(error)
    if found:
        raise StepError("package.no-archive", f"the build left no archive at /build/{spec.output}: {found}", status=1)


def _mount_tree(spec: ActionSpec) -> str:
    """Where the tree is to be seen, in this thread's own mount namespace."""
    if len(spec.lowers) == 1:
        return f"{spec.layers_directory}/{spec.lowers[0]}"
    try:
        syscalls.unshare(syscalls.CLONE_NEWNS)
        syscalls.mount("none", "/", "", syscalls.MS_REC | syscalls.MS_PRIVATE)
        os.chdir(spec.layers_directory)
        groups = [spec.lowers[at : at + MOST_LOWERS] for at in range(0, len(spec.lowers), MOST_LOWERS)]
        if len(groups) == 1:
            _mount_overlay(spec.lowers, spec.mount)
        else:
            # The kernel takes 500 at once: groups of them are joined first. Two such levels is what it allows.
            for number, group in enumerate(groups):
                os.mkdir(f"{spec.mount}-{number}")
                _mount_overlay(group, f"{spec.mount}-{number}")
            _mount_overlay(tuple(f"{spec.mount}-{number}" for number in range(len(groups))), spec.mount)
    except OSError as error:
        hint = "`boxwright doctor` says what this machine can do"
        message = f"the tree of a package build can't be mounted: {error.strerror}"
        raise MachineError("spec.mount", message, hint=hint) from error
    return spec.mount


def _mount_overlay(lowers: tuple[str, ...], target: str) -> None:
    options = f"lowerdir={':'.join(lowers)}" + (",userxattr" if in_user_namespace() else "")
    if len(lowers) == 1:
        syscalls.mount(lowers[0], target, "", syscalls.MS_BIND)
    else:
        syscalls.mount("overlay", target, "overlay", syscalls.MS_RDONLY | syscalls.MS_NODEV, options)


@contextmanager
def _options(spec: ActionSpec, root: str) -> Iterator[tuple[list[str], list[int]]]:
    """The words with which bubblewrap reads from descriptors, and these descriptors.

    The build's variables are among what it reads: they count inside alone, are in no list of processes, and may be more
    than a command line holds.
    """
    options = [*_arguments(spec, root), "--clearenv", *(word for pair in spec.env for word in ("--setenv", *pair))]
    if any("\0" in word for word in options):
        raise StepError("sandbox.start", "the build is given a text with a NUL in it", status=_NOT_STARTED)
    contents = {"--args": b"".join(os.fsencode(word) + b"\0" for word in options)}
    if spec.interactive:
        from boxwright.sandbox.seccomp import keyboard_filter

        contents["--seccomp"] = keyboard_filter()
    descriptors: list[int] = []
    try:
        words: list[str] = []
        for option, data in contents.items():
            descriptors.append(os.memfd_create(option))
            write_all(descriptors[-1], data)
            os.lseek(descriptors[-1], 0, os.SEEK_SET)
            words += [option, str(descriptors[-1])]
        yield words, descriptors
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


def _arguments(spec: ActionSpec, root: str) -> list[str]:
    words = ["--unshare-all", "--unshare-user", "--uid", BUILD_ID, "--gid", BUILD_ID, "--hostname", HOSTNAME]
    words += ["--die-with-parent", "--cap-drop", "ALL"]
    if not spec.interactive:
        words.append("--new-session")
    words += ["--ro-bind", root, "/", "--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp"]  # noqa: S108
    if spec.work:
        words += ["--bind", spec.work, "/build"]
    for source, target in spec.read_only:
        words += ["--ro-bind", source, target]
    return [*words, "--chdir", spec.cwd]


def _listen(descriptor: int, output: Callable[[bytes], None], cancelled: Callable[[], bool]) -> None:
    with selectors.DefaultSelector() as selector:
        selector.register(descriptor, selectors.EVENT_READ)
        while not cancelled():
            if not selector.select(POLL_SECONDS):
                continue
            data = os.read(descriptor, CHUNK)
            if not data:
                return
            output(data)


def in_user_namespace() -> bool:
    """Whether this process is in a user namespace other than the first one (user_namespaces(7))."""
    with open("/proc/self/uid_map", encoding="ascii") as lines:
        return lines.readline().split() != ["0", "0", "4294967295"]


def _stop(process: subprocess.Popen[bytes]) -> int:
    """Kill bubblewrap; its PID namespace, and so everything in it, ends with it."""
    process.send_signal(signal.SIGKILL)
    return process.wait()
