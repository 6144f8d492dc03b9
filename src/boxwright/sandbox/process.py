"""The sandboxed process itself: from a freshly forked child to execve(2). Nothing here returns to its caller."""

from __future__ import annotations

import fcntl
import os
import resource
import signal
import socket
import struct
import termios
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, NoReturn

from boxwright.files import close_others
from boxwright.ports import SandboxSpec
from boxwright.sandbox import capabilities, descriptors, identity, mounts, syscalls
from boxwright.sandbox.interfaces import bring_up
from boxwright.sandbox.request import (
    GO,
    EnterRequest,
    Failed,
    Made,
    Prepared,
    Report,
    RunRequest,
    SandboxError,
    Terminal,
    decode_request,
    encode,
)

_NOT_FOUND: Final = 127
_NOT_EXECUTABLE: Final = 126
_SETUP_FAILED: Final = 125
# <asm-generic/ioctls.h>; Python 3.11's termios lacks them.
_TIOCGPTN: Final = 0x80045430
_TIOCSPTLCK: Final = 0x40045431
_DEFAULT_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True, slots=True)
class Machine:
    """What is known before the first request: the seccomp filter, and which capabilities there are."""

    filter: bytes
    last_capability: int
    held: int


def wait_and_run(feed: socket.socket, stage: str, machine: Machine) -> NoReturn:
    """Be the first process of a sandbox that isn't known yet: prepare, and run what comes over `feed`."""
    failed: Failed | None = None
    try:
        syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)
        _prepare(stage)
    except SandboxError as failure:
        failed = Failed(failure.code, failure.message, failure.hint, failure.fault)
    except OSError as error:
        failed = Failed("sandbox.setup", f"the sandbox can't be prepared: {error}", "", "machine")
    _, fds = descriptors.receive(feed, 16)
    if not fds:
        os._exit(0)
    feed.close()
    session = socket.socket(fileno=fds[0])
    if failed:
        _report(session, failed)
        os._exit(_SETUP_FAILED)
    request = decode_request(os.pread(fds[1], os.fstat(fds[1]).st_size, 0))
    assert isinstance(request, RunRequest)  # noqa: S101  for the type checker: nothing else is handed over
    _run(request, session, fds[2:], machine)


def run(request: RunRequest, session: socket.socket, fds: list[int], machine: Machine) -> NoReturn:
    """Be the first process of a new, detached sandbox. The caller made the PID namespace."""
    try:
        _prepare(request.stage)
    except (OSError, SandboxError) as error:
        _report(session, Failed("sandbox.setup", f"the sandbox can't be prepared: {error}", "", "machine"))
        os._exit(_SETUP_FAILED)
    _run(request, session, fds, machine)


def _run(request: RunRequest, session: socket.socket, fds: list[int], machine: Machine) -> NoReturn:
    try:
        _start(request, session, fds, machine)
    except SandboxError as failure:
        _report(session, Failed(failure.code, failure.message, failure.hint, failure.fault))
    except BaseException as error:  # noqa: BLE001  a child's every failure becomes its parent's error
        _report(session, Failed("sandbox.setup", f"the sandbox can't be made: {error!r}", "", "machine"))
    os._exit(_SETUP_FAILED)


def _prepare(stage: str) -> None:
    os.setsid()
    flags = syscalls.CLONE_NEWNS | syscalls.CLONE_NEWUTS | syscalls.CLONE_NEWIPC | syscalls.CLONE_NEWCGROUP
    syscalls.unshare(flags)
    syscalls.join_new_keyring()
    mounts.stage(stage)
    identity.look_up("", "root:x:0:0:root:/root:/bin/sh\n", "root:x:0:\n")  # makes its pages this process's own


def enter(request: EnterRequest, session: socket.socket, fds: list[int], machine: Machine) -> NoReturn:
    """Be a further process of a running sandbox. The caller entered its namespaces."""
    try:
        syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)
        os.setsid()
        if request.terminal:
            fds = _terminal(session, fds[0])
        _attach(fds)
        _become_and_execute(request.argv, request.env, request.cwd, request.user, request.security, machine)
    except SandboxError as failure:
        _report(session, Failed(failure.code, failure.message, failure.hint, failure.fault))
    except BaseException as error:  # noqa: BLE001  as above
        _report(session, Failed("sandbox.setup", f"the sandbox can't be entered: {error!r}", "", "machine"))
    os._exit(_SETUP_FAILED)


def _report(session: socket.socket, report: Report, fds: tuple[int, ...] = ()) -> None:
    try:
        socket.send_fds(session, [encode(report)], fds)
    except OSError:
        os._exit(_SETUP_FAILED)  # nobody listens any more


def _start(request: RunRequest, session: socket.socket, fds: list[int], machine: Machine) -> None:
    spec = request.spec
    if request.cgroups:
        _join_cgroups(request.cgroups)
    if len(fds) > 3:
        syscalls.setns(fds[3], syscalls.CLONE_NEWNET)
    elif spec.network != "host":
        syscalls.unshare(syscalls.CLONE_NEWNET)
        bring_up("lo")
    socket.sethostname(spec.hostname)
    old_root = mounts.enter_tree(request)
    made = mounts.populate(request)
    mounts.leave_old_root()
    os.close(old_root)
    if made:
        _report(session, Made(made))
    _set_limits(spec)
    standard = _terminal(session, fds[0]) if spec.terminal else fds[:3]
    if spec.stdin:
        standard = [_memory_file(spec.stdin), *standard[1:]]
    if request.detached:
        _await_go(session)
    _attach(standard)
    if spec.init:
        _be_init()
    _become_and_execute(spec.argv, spec.env, spec.cwd, spec.user, spec.security, machine)


def _await_go(session: socket.socket) -> None:
    """Whoever started it may have been killed before it could write down that this process is there."""
    _report(session, Prepared())
    if session.recv(len(GO)) != GO:
        os._exit(_SETUP_FAILED)


def _join_cgroups(directories: tuple[str, ...]) -> None:
    for directory in directories:
        try:
            with open(f"{directory}/cgroup.procs", "w", encoding="ascii") as file:
                file.write("0")
        except OSError as error:
            message = f"the control group {directory} can't be joined: {error.strerror}"
            raise SandboxError("sandbox.cgroup", message, hint="leave --cgroup-parent out, or run as root") from error


def _set_limits(spec: SandboxSpec) -> None:
    for name, soft, hard in spec.limits:
        try:
            resource.setrlimit(getattr(resource, f"RLIMIT_{name.upper()}"), (soft, hard))
        except (AttributeError, ValueError, OSError) as error:
            message = f"the limit {name}={soft}:{hard} can't be set: {error}"
            raise SandboxError("sandbox.limit", message, fault="step") from error


def _terminal(session: socket.socket, user: int) -> list[int]:
    """A pseudo-terminal of the sandbox's own devpts, the controlling one of this session (pty(7)).

    It has the size of `user` from the start, where that is a terminal.
    """
    control = os.open("/dev/pts/ptmx", os.O_RDWR | os.O_NOCTTY)
    fcntl.ioctl(control, _TIOCSPTLCK, struct.pack("i", 0))
    number = struct.unpack("i", fcntl.ioctl(control, _TIOCGPTN, struct.pack("i", 0)))[0]
    terminal = os.open(f"/dev/pts/{number}", os.O_RDWR | os.O_NOCTTY)
    fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)
    if os.isatty(user):
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, fcntl.ioctl(user, termios.TIOCGWINSZ, bytes(8)))
    _report(session, Terminal(), (control,))
    os.close(control)
    return [terminal, terminal, terminal]


def _memory_file(data: bytes) -> int:
    fd = os.memfd_create("stdin")
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
    os.lseek(fd, 0, os.SEEK_SET)
    return fd


def _attach(standard: list[int]) -> None:
    """The three descriptors become 0, 1 and 2; the others are closed on execve(2), as Python opens them all."""
    copies = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 10) for fd in standard]
    for target, copy in enumerate(copies):
        os.dup2(copy, target, inheritable=True)
        os.close(copy)


def _be_init() -> None:
    """Stay as the first process: fork the sandboxed one, forward signals to it, reap orphans, end with its status."""
    syscalls.prctl(syscalls.PR_SET_DUMPABLE, 0)  # /proc/1/exe is the host's Python: nobody may open it
    forwarded = sorted(signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP, signal.SIGCHLD})
    signal.pthread_sigmask(signal.SIG_BLOCK, [*forwarded, signal.SIGCHLD])
    child = os.fork()
    if child == 0:
        return
    os.closerange(0, 3)
    close_others()
    while True:
        received = signal.sigwaitinfo([*forwarded, signal.SIGCHLD]).si_signo
        if received != signal.SIGCHLD:
            os.kill(child, received)
            continue
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                break
            if pid == child:
                os._exit(exit_code(status))
            if pid == 0:
                break


def exit_code(status: int) -> int:
    """waitpid(2)'s status as a shell shows it: 128 + signal for a killed process."""
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def _enter(directory: str) -> None:
    """Go there; what an earlier step removed of it is made again, as other engines do."""
    try:
        os.chdir(directory)
    except FileNotFoundError:
        os.umask(0o022)
        os.makedirs(directory, 0o755, exist_ok=True)
        os.chdir(directory)


def _become_and_execute(
    argv: tuple[str, ...],
    env: tuple[tuple[str, str], ...],
    cwd: str,
    user: str,
    security: str,
    machine: Machine,
) -> NoReturn:
    try:
        who = identity.in_tree(user)
    except identity.UnknownUserError as error:
        raise SandboxError("sandbox.user-unknown", str(error), fault="step") from error
    try:
        _enter(cwd or "/")
    except OSError as error:
        message = f"the working directory {cwd} can't be entered: {error.strerror}"
        raise SandboxError("sandbox.cwd", message, fault="step") from error
    environment = {"HOME": who.home, **dict(env)}
    allowed = machine.held if security == "insecure" else machine.held & capabilities.DEFAULT_MASK
    capabilities.limit(allowed, machine.last_capability)
    if security != "insecure":
        syscalls.set_seccomp_filter(machine.filter)
    os.setgroups(who.groups)
    os.setresgid(who.gid, who.gid, who.gid)
    os.setresuid(who.uid, who.uid, who.uid)
    syscalls.set_capabilities(allowed if who.uid == 0 else 0)
    for number in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT, signal.SIGTERM, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    os.umask(0o022)
    _execute(argv, environment)


def _execute(argv: tuple[str, ...], env: Mapping[str, str]) -> NoReturn:
    """execvp(3) by the PATH of `env`; without one to run, says so on standard error and ends as a shell does."""
    name = argv[0]
    directories = [""] if "/" in name else env.get("PATH", _DEFAULT_PATH).split(":")
    problem, status = f"{name}: not found", _NOT_FOUND
    if "/" not in name:
        problem += f" in PATH ({env.get('PATH', _DEFAULT_PATH)})"
    for directory in directories if name else ():
        path = f"{directory}/{name}" if directory else name
        try:
            os.execve(path, argv, env)
        except (FileNotFoundError, NotADirectoryError):
            # Also for an existing file whose interpreter or loader is missing.
            if os.path.exists(path) and status == _NOT_FOUND:
                problem = f"{path}: its interpreter is not in the tree"
        except OSError as error:
            problem, status = f"{path}: {error.strerror}", _NOT_EXECUTABLE
    os.write(2, f"boxwright: {problem}\n".encode())
    os._exit(status)
