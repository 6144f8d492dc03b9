"""User-mode networks: a network namespace and the program beside it, pasta or slirp4netns, that carries its traffic.

Neither maps an address to the host's loopback; no port is forwarded but those asked for (pasta(1), slirp4netns(1)).
"""

from __future__ import annotations

import os
import select
import shutil
import signal
import socket
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Final, NoReturn

from boxwright.errors import MachineError
from boxwright.sandbox import syscalls
from boxwright.sandbox.children import never_return
from boxwright.sandbox.interfaces import bring_up
from boxwright.sandbox.request import Failed, NetworkRequest, Ready, encode

_FORWARDER: Final = "169.254.1.53"
_SLIRP_FORWARDER: Final = "10.0.2.3"
_TUN: Final = "/dev/net/tun"
_PATIENCE: Final = 10.0
_DEFAULT_ROUTE: Final = "00000000"
_HINT: Final = "install Debian's package passt or slirp4netns, or build with --network host or none"


def request(root: str, *, tcp: Sequence[str] = (), udp: Sequence[str] = (), detached: bool = False) -> NetworkRequest:
    """What to start. `tcp`, `udp`: ports as pasta has them (``ADDRESS/8080:80``); slirp4netns has none."""
    if not os.access(_TUN, os.R_OK | os.W_OK):
        hint = f"as root: modprobe tun; chmod 666 {_TUN}; or build with --network host or none"
        raise MachineError("machine.no-tun", f"{_TUN}, which a user-mode network needs, can't be opened", hint=hint)
    if pasta := shutil.which("pasta"):
        ports = [word for port in tcp or ("none",) for word in ("--tcp-ports", port)]
        ports += [word for port in udp or ("none",) for word in ("--udp-ports", port)]
        command = (
            pasta, "--foreground", "--quiet", "--config-net", "--no-map-gw", "--runas", "0",
            *ports, "--tcp-ns", "none", "--udp-ns", "none",
            "--dns-forward", _FORWARDER, "--netns",
        )  # fmt: skip
        return NetworkRequest(root, (*command, "{netns}"), detached)
    if (slirp := shutil.which("slirp4netns")) and not (tcp or udp):
        options = ("--configure", "--mtu=65520", "--disable-host-loopback", "--netns-type=path")
        return NetworkRequest(root, (slirp, *options, "{netns}", "tap0"), detached)
    missing = "pasta" if tcp or udp else "neither pasta nor slirp4netns"
    raise MachineError("machine.no-user-network", f"no program for a user-mode network: {missing} is there", hint=_HINT)


def isolated() -> int:
    """A descriptor of a new network namespace with nothing but its loopback; it goes with its last user."""
    made: list[int | OSError] = []

    def make() -> None:
        try:
            syscalls.unshare(syscalls.CLONE_NEWNET)
            bring_up("lo")
            made.append(os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC))
        except OSError as error:
            made.append(error)

    # A thread of its own, since a network namespace is a thread's (unshare(2)).
    maker = threading.Thread(target=make)
    maker.start()
    maker.join()
    if isinstance(made[0], OSError):
        message = f"a network can't be made: {made[0].strerror}"
        raise MachineError("sandbox.network", message, hint=_HINT) from made[0]
    return made[0]


def resolver(host: str, network: str) -> str:
    """The text of a sandbox's /etc/resolv.conf, from the host's (resolv.conf(5))."""
    if network == "none":
        return "# no network\n"
    if network == "host":
        return host
    # The program's forwarder in place of every server: it reaches those on the host's loopback too, and pasta of Debian
    # 12 rewrites the answers of a server that is asked by its own address.
    forwarder = _FORWARDER if shutil.which("pasta") else _SLIRP_FORWARDER
    kept = [line for line in host.splitlines() if line.split()[:1] not in (["nameserver"], [])]
    return "\n".join((f"nameserver {forwarder}", *kept)) + "\n"


def keep(asked: NetworkRequest, session: socket.socket, fds: list[int]) -> NoReturn:
    """Be the first process of a PID namespace that holds a network's program.

    Ends with it, or when the other end of one of the pipes `fds` is closed.
    """
    try:
        if not asked.detached:
            syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)
        _keep(asked, session, fds)
    except BaseException as error:  # noqa: BLE001  a child's every failure becomes its parent's error
        failed = Failed("sandbox.network", f"the user-mode network can't be made: {error}", _HINT, "machine")
        with suppress(OSError):  # nobody waits for it any more: the build was quicker
            session.send(encode(failed))
    os._exit(1)


def _keep(asked: NetworkRequest, session: socket.socket, fds: list[int]) -> None:
    os.setsid()
    syscalls.unshare(syscalls.CLONE_NEWNS)
    syscalls.mount("none", "/", "", syscalls.MS_REC | syscalls.MS_PRIVATE)
    # A name for the namespace that can be opened without being allowed to look into this process.
    syscalls.mount("netns", asked.root, "tmpfs", 0)
    path = f"{asked.root}/net"
    os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))
    messages = os.memfd_create("messages")
    prepared, prepare = os.pipe()
    # Forked before there is the new namespace: an ordinary user's process can't come back to the host's.
    child = os.fork()
    if child == 0:
        os.close(prepare)
        never_return(lambda: _execute(prepared, [word.format(netns=path) for word in asked.command], messages))
    syscalls.unshare(syscalls.CLONE_NEWNET)
    bring_up("lo")
    inside = os.open("/proc/self/ns/net", os.O_RDONLY)
    syscalls.mount("/proc/self/ns/net", path, "", syscalls.MS_BIND)
    os.close(prepare)
    _await(child, messages)
    socket.send_fds(session, [encode(Ready())], [inside])
    os.close(inside)
    session.close()
    poll = select.poll()
    poll.register(os.pidfd_open(child), select.POLLIN)
    for fd in fds:
        poll.register(fd, 0)  # says when the other end is closed
    poll.poll()
    os._exit(1)


def _execute(prepared: int, command: list[str], messages: int) -> NoReturn:
    """When the other end of the pipe `prepared` is closed."""
    os.read(prepared, 1)
    null = os.open(os.devnull, os.O_RDWR)
    for fd, target in ((null, 0), (messages, 1), (messages, 2)):
        os.dup2(fd, target, inheritable=True)
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)  # Python ignores them, at which pasta of Debian 12 stumbles
    os.execv(command[0], command)


def _await(child: int, messages: int) -> None:
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline:
        with open("/proc/self/net/route", encoding="ascii") as routes:
            if any(line.split()[1:2] == [_DEFAULT_ROUTE] for line in routes):
                return
        if os.waitpid(child, os.WNOHANG)[0]:
            break
        time.sleep(0.001)
    said = os.pread(messages, 4096, 0).decode(errors="replace").strip().splitlines()
    raise OSError(said[-1] if said else "its program set no default route")
