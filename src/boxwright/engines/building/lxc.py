"""LXC: an overlay for each container; a state is the list of directories that make its tree.

Containers and states lie below one directory of ours (``lxc-* -P``), and nothing of the machine's configuration is used
but lxc's own defaults. Needs root.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import signal
import stat
import subprocess
import threading
import time
from collections.abc import Callable, Collection, Iterator
from typing import IO

from boxwright.engines.building.owners import is_abandoned, mark_text, own_mark
from boxwright.engines.building.pause import PATH
from boxwright.engines.building.users import find_user
from boxwright.engines.processes import ProcessMark, mark, send
from boxwright.errors import BoxwrightError, MachineError
from boxwright.ports import Bind, BuildContainer, ContainerShape, EngineCommand, SeenPath, Tmpfs

START_SECONDS = 30.0
BOOT_SECONDS = 60.0
SMALL = 16 << 20
PIECE = 1 << 16
INITS = ("sbin/init", "usr/sbin/init", "lib/systemd/systemd", "usr/lib/systemd/systemd")
FORWARDER = "169.254.1.53"
"""An address of nobody, at which pasta answers as the machine's name servers."""
NEEDED = ("lxc-start", "lxc-attach", "lxc-stop", "lxc-info")
LONGEST_LOWERS = 3000
"""Bytes of the list of an overlay's lower directories: mount(2) takes a page of options, and others stand there too."""
CONFIG = """\
lxc.include = /usr/share/lxc/config/common.conf
lxc.uts.name = boxwright
lxc.rootfs.path = overlayfs:{lowers}:{upper}
lxc.apparmor.profile = unconfined
lxc.mount.auto = proc:mixed sys:mixed cgroup:mixed
lxc.tty.max = 0
lxc.pty.max = 64
lxc.init.cmd = {init}
lxc.log.file = {directory}/log
lxc.log.level = WARN
"""


class LxcEngine:
    """Containers and states below `directory`."""

    def __init__(self, directory: str) -> None:
        self.name = "lxc"
        self.is_local = True
        missing = [name for name in NEEDED if shutil.which(name) is None]
        if missing:
            raise MachineError("engine.unreachable", f"{missing[0]} is not there", hint="apt-get install lxc")
        if os.geteuid() != 0:
            raise MachineError("engine.unreachable", "LXC's build containers need root", hint="use podman, or LXD")
        self._states = f"{directory}/states"
        self.containers = f"{directory}/containers"
        os.makedirs(self._states, 0o711, exist_ok=True)
        os.makedirs(self.containers, 0o711, exist_ok=True)

    def states(self) -> set[str]:
        """Their directories."""
        return {name for name in os.listdir(self._states) if os.path.isfile(f"{self._states}/{name}/lowers")}

    def load(self, state: str, archive: str) -> None:
        """Unpack a tar."""
        with self._new_state(state, []) as tree:
            os.mkdir(tree, 0o755)
            run(["tar", "-x", "-p", "--numeric-owner", "--xattrs", "--xattrs-include=*", "-C", tree, "-f", archive])

    @contextlib.contextmanager
    def _new_state(self, state: str, lowers: list[str]) -> Iterator[str]:
        """A directory to be filled, which is a state on top of `lowers` then; all or nothing."""
        directory = f"{self._states}/{state}"
        unfinished = f"{directory}.{secrets.token_hex(4)}.new"
        os.mkdir(unfinished, 0o711)
        try:
            yield f"{unfinished}/tree"
            with open(f"{unfinished}/lowers", "w", encoding="ascii") as file:
                json.dump([f"{directory}/tree", *lowers], file)
            shutil.rmtree(directory, ignore_errors=True)
            os.rename(unfinished, directory)
        except BaseException:
            shutil.rmtree(unfinished, ignore_errors=True)
            raise

    def lowers(self, state: str) -> list[str]:
        """The directories of a state, the topmost first. Raises BoxwrightError `engine.no-state`."""
        try:
            with open(f"{self._states}/{state}/lowers", encoding="ascii") as file:
                return [str(it) for it in json.load(file)]
        except (OSError, ValueError) as error:
            raise BoxwrightError("engine.no-state", f"LXC holds no state {state}", hint="build again") from error

    def start(self, state: str, shape: ContainerShape) -> BuildContainer:
        """Start one; booted where its tree has an init."""
        lowers = self.lowers(state)
        name = f"boxwright-build-{secrets.token_hex(6)}"
        directory = f"{self.containers}/{name}"
        os.mkdir(directory, 0o711)
        container = LxcContainer(self, name, lowers)
        try:
            with open(f"{directory}/owner", "w", encoding="ascii") as file:
                file.write(own_mark())
            os.mkdir(container.upper, 0o755)
            _same_attributes(lowers[0], container.upper)
            booted = any(os.path.lexists(f"{lower}/{path}") for lower in lowers for path in INITS)
            with open(f"{directory}/config", "w", encoding="utf-8") as file:
                file.write(self._config(container, shape, booted=booted))
            run(["lxc-start", "-P", self.containers, "-n", name, "-d"], f"{directory}/log")
            container.await_running()
            if shape.network == "default":
                container.connect()
            elif shape.network == "host":
                container.write_resolver("/etc/resolv.conf")
            if booted:
                container.await_boot()
        except BaseException:
            container.remove()
            raise
        return container

    @staticmethod
    def _config(container: LxcContainer, shape: ContainerShape, *, booted: bool) -> str:
        # An overlay's options are separated by colons and commas: none of our paths holds either.
        lowers = ":".join(reversed(container.lowers))
        init = "/sbin/init" if booted else f"/{PATH}"
        lines = [CONFIG.format(lowers=lowers, upper=container.upper, directory=container.directory, init=init)]
        lines.append(f"lxc.net.0.type = {'none' if shape.network == 'host' else 'empty'}\n")
        for mount in shape.mounts:
            target = mount.target.lstrip("/")
            if isinstance(mount, Tmpfs):
                lines.append(f"lxc.mount.entry = tmpfs {target} tmpfs rw,create=dir 0 0\n")
            elif isinstance(mount, Bind):
                kind = "dir" if os.path.isdir(mount.source) else "file"
                access = "ro" if mount.read_only else "rw"
                source = mount.source.replace(" ", "\\040")
                lines.append(f"lxc.mount.entry = {source} {target} none rbind,{access},create={kind} 0 0\n")
        return "".join(lines)

    def keep(self, state: str, container: LxcContainer) -> None:
        """The container's own directory, copied, is a state on top of those that it began with.

        Where those are too many for one mount, the state is all of the tree.
        """
        is_whole = len(":".join(container.lowers)) > LONGEST_LOWERS
        with self._new_state(state, [] if is_whole else container.lowers) as tree:
            if is_whole:
                self._with_tree_of([container.upper, *container.lowers], 'exec cp -a --reflink=auto "$2" "$3"', tree)
            else:
                run(["cp", "-a", "--reflink=auto", container.upper, tree])

    def fetch(self, state: str, archive: str) -> str:
        """A tar of its tree."""
        script = 'exec tar -c --numeric-owner --xattrs --xattrs-include="*" --xattrs-exclude="trusted.overlay.*" '
        self._with_tree_of(self.lowers(state), f'{script} -C "$2" -f "$3" .', archive)
        return ""

    def _with_tree_of(self, lowers: list[str], script: str, output: str) -> None:
        """Show an overlay ($2) to a script that writes `output` ($3), in a mount namespace that ends with it."""
        point = f"{self.containers}/.fetch-{secrets.token_hex(4)}"
        empty = f"{point}.empty"
        os.mkdir(point, 0o700)
        try:
            os.mkdir(empty)
            script = f'mount -t overlay overlay -o "ro,lowerdir=$1" "$2" && {script}'
            options = ":".join([*lowers, empty])
            run(["unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh", options, point, output])
        finally:
            shutil.rmtree(empty, ignore_errors=True)
            os.rmdir(point)

    def forget(self, states: Collection[str]) -> None:
        """Remove them; a state stands on the directories of earlier ones, which go too."""
        for state in states:
            shutil.rmtree(f"{self._states}/{state}", ignore_errors=True)
        gone = [name for name in self.states() if not all(os.path.isdir(lower) for lower in self.lowers(name))]
        for name in gone:
            shutil.rmtree(f"{self._states}/{name}", ignore_errors=True)

    def sweep(self, owner: str = "") -> int:
        """Stop and remove containers whose owner has ended."""
        removed = 0
        for name in os.listdir(self.containers):
            try:
                with open(f"{self.containers}/{name}/owner", encoding="ascii") as file:
                    whose = file.read()
            except OSError:
                continue
            if whose == owner or (not owner and is_abandoned(whose)):
                LxcContainer(self, name, []).remove()
                removed += 1
        return removed

    def close(self) -> None:
        """Nothing is open."""


class LxcContainer:
    """A build container."""

    def __init__(self, engine: LxcEngine, name: str, lowers: list[str]) -> None:
        self.name = name
        self.lowers = lowers
        self.directory = f"{engine.containers}/{name}"
        self.upper = f"{self.directory}/upper"
        self._engine = engine
        self._pid = 0
        self._pasta: subprocess.Popen[bytes] | None = None
        self._place = ["-P", engine.containers, "-n", name]

    def await_running(self) -> None:
        """Until it runs; its first process is known then."""
        until = time.monotonic() + START_SECONDS
        while time.monotonic() < until:
            said = subprocess.run(["lxc-info", *self._place, "-pH"], capture_output=True, check=False, timeout=30)
            if said.stdout.strip().isdigit():
                self._pid = int(said.stdout)
                return
            time.sleep(0.02)
        raise BoxwrightError("engine.refused", f"a build container of LXC does not start: {_tail(self.directory)}")

    def await_boot(self) -> None:
        """Until systemd has started what it starts, where it is the init and can be asked."""
        until = time.monotonic() + BOOT_SECONDS
        while time.monotonic() < until:
            said = bytearray()
            command = EngineCommand(("systemctl", "is-system-running"), (("PATH", "/usr/bin:/bin"),))
            status = self.execute(command, said.extend, lambda: False)
            if bytes(said).strip() in (b"running", b"degraded") or status in (126, 127):
                return
            time.sleep(0.1)

    def connect(self) -> None:
        """A network without a bridge: pasta(1) beside the container, which goes with it."""
        if shutil.which("pasta") is None:
            raise MachineError("engine.network", "pasta is not installed", hint="apt-get install passt")
        words = ["pasta", "--foreground", "--quiet", "--config-net", "--no-map-gw", "--runas", "0"]
        words += ["--tcp-ports", "none", "--udp-ports", "none", "--tcp-ns", "none", "--udp-ns", "none"]
        words += ["--dns-forward", FORWARDER, "--netns", f"/proc/{self._pid}/ns/net"]
        pasta = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        with open(f"{self.directory}/pasta", "w", encoding="ascii") as file:
            file.write(mark_text(mark(pasta.pid)))
        self._pasta = pasta
        path = f"{self.directory}/resolv.conf"
        with open(path, "w", encoding="ascii") as file:
            file.write(f"nameserver {FORWARDER}\n")
        self.write_resolver(path)

    def _disconnect(self) -> None:
        """End pasta, also that of a build that was killed."""
        try:
            with open(f"{self.directory}/pasta", encoding="ascii") as file:
                pid, started, boot = file.read().split(":")
        except (OSError, ValueError):
            return
        send(ProcessMark(int(pid), int(started), boot), signal.SIGTERM)
        if self._pasta is not None:
            self._pasta.wait(10)

    def write_resolver(self, source: str) -> None:
        """The name servers that it can reach."""
        path = self._real("/etc/resolv.conf")
        if os.path.isdir(os.path.dirname(path)):
            if os.path.lexists(path):
                os.unlink(path)
            shutil.copyfile(source, path)

    def execute(self, command: EngineCommand, output: Callable[[bytes], None], cancelled: Callable[[], bool]) -> int:
        """Run it by lxc-attach, which has no option for the directory: where that is not the root a shell enters it."""
        who = find_user(command.user, self.read)
        env = {"HOME": who.home, **dict(command.env)}
        words = ["lxc-attach", *self._place, "--clear-env", "-u", str(who.uid), "-g", str(who.gid)]
        for name, value in env.items():
            words += ["-v", f"{name}={value}"]
        argv = list(command.argv)
        if command.cwd not in ("", "/"):
            argv = ["/bin/sh", "-c", 'cd "$0" && exec "$@"', command.cwd, *argv]
        process = subprocess.Popen(
            [*words, "--", *argv],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        if process.stdout is None:
            raise TypeError
        reader = threading.Thread(target=_read, args=(process.stdout, output), daemon=True)
        reader.start()
        while True:
            with contextlib.suppress(subprocess.TimeoutExpired):
                status = process.wait(0.1)
                break
            if cancelled():
                run(["lxc-stop", *self._place, "-k"])
                process.kill()
                process.wait()
                raise KeyboardInterrupt
        # What it left running may hold its output open: that is not waited for.
        reader.join(1.0)
        return status if status >= 0 else 128 - status

    def _real(self, path: str) -> str:
        """A path of the container as this machine sees it; no link on its way is followed out of it."""
        real: list[str] = []
        waiting = [part for part in reversed(path.split("/")) if part not in ("", ".")]
        links = 0
        while waiting:
            part = waiting.pop()
            if part == "..":
                real = real[:-1]
                continue
            here = "/".join((f"/proc/{self._pid}/root", *real, part))
            if waiting and os.path.islink(here) and (links := links + 1) < 40:
                target = os.readlink(here)
                if target.startswith("/"):
                    real = []
                waiting.extend(name for name in reversed(target.split("/")) if name not in ("", "."))
            else:
                real.append(part)
        return "/".join((f"/proc/{self._pid}/root", *real))

    def look(self, path: str) -> SeenPath | None:
        """What is there."""
        real = self._real(path)
        try:
            mode = os.lstat(real).st_mode
        except (FileNotFoundError, NotADirectoryError):
            return None
        if stat.S_ISLNK(mode):
            return SeenPath("symlink", os.readlink(real))
        return SeenPath("directory" if stat.S_ISDIR(mode) else "file" if stat.S_ISREG(mode) else "other")

    def read(self, path: str) -> bytes | None:
        """A file's bytes."""
        try:
            opened = os.open(self._real(path), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            return None
        if not stat.S_ISREG(os.fstat(opened).st_mode):
            os.close(opened)
            return None
        with os.fdopen(opened, "rb") as file:
            return file.read(SMALL)

    def put(self, archive: str) -> None:
        """Unpack it at the container's root."""
        root = f"/proc/{self._pid}/root"
        run(["tar", "-x", "-p", "--numeric-owner", "--no-overwrite-dir", "-C", root, "-f", archive])

    def commit(self, state: str) -> None:
        """Copy what it wrote."""
        self._engine.keep(state, self)

    def remove(self) -> None:
        """Kill it, and remove its directory."""
        self._disconnect()
        subprocess.run(["lxc-stop", *self._place, "-k"], capture_output=True, check=False, timeout=60)
        shutil.rmtree(self.directory, ignore_errors=True)
        if os.path.isdir(self.directory):
            raise BoxwrightError("engine.refused", f"{self.directory} can't be removed")


def _read(file: IO[bytes], output: Callable[[bytes], None]) -> None:
    with file:
        while piece := os.read(file.fileno(), PIECE):
            output(piece)


def _same_attributes(source: str, target: str) -> None:
    """An overlay shows its upper directory's owner and mode as those of the root."""
    shutil.copystat(source, target)
    found = os.stat(source)
    os.chown(target, found.st_uid, found.st_gid)


def run(command: list[str], log: str = "") -> None:
    """Run a program. Raises BoxwrightError `engine.refused` with the end of what it says."""
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=600)
    if done.returncode:
        said = done.stderr.decode("utf-8", "replace").strip()
        if log and os.path.exists(log):
            with open(log, encoding="utf-8", errors="replace") as file:
                said = f"{said} {' '.join(file.read().splitlines()[-3:])}"
        raise BoxwrightError("engine.refused", f"{command[0]}: {said[-500:]}")


def _tail(directory: str) -> str:
    try:
        with open(f"{directory}/log", encoding="utf-8", errors="replace") as file:
            return " ".join(file.read().splitlines()[-3:])
    except OSError:
        return ""
