"""The programs that are compared. The caches are the tools' own, and no store is deleted."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, runtime_checkable

ROOT = Path(__file__).parents[1]
ENGINES = Path(os.environ.get("BOXWRIGHT_ENGINES", "/run/boxwright-engines"))


class CommandFailedError(Exception):
    """A measured command failed: the row says so and the others go on."""


@dataclass(frozen=True)
class Sample:
    """One run of a command: wall time, and the peak memory of the largest process in it."""

    seconds: float
    peak_bytes: int


def run(
    command: Sequence[str | Path], environment: Mapping[str, str] | None = None, directory: Path | None = None
) -> Sample:
    """Run a command to its end. wait4 tells the peak memory of it and of the children that it waited for."""
    words = [str(word) for word in command]
    output = os.memfd_create("output")
    try:
        started = time.perf_counter()
        process = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=directory,
            env={**os.environ, **(environment or {})},
        )
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            text = os.pread(output, 1 << 20, 0).decode(errors="replace")
            last = "\n".join(text.strip().splitlines()[-12:])
            message = f"{' '.join(words)} ended with status {process.returncode}\n{last}"
            raise CommandFailedError(message)
    finally:
        os.close(output)
    return Sample(seconds, usage.ru_maxrss * 1024)


def containers_configuration() -> dict[str, str]:
    """For buildah and podman: what the machine's limits ask for."""
    configuration = ENGINES / "containers.conf"
    return {"CONTAINERS_CONF": str(configuration)} if configuration.exists() else {}


class Tool(Protocol):
    """What is measured."""

    name: str

    def answers(self) -> bool: ...

    def prepare(self, base_tar: Path) -> None:
        """Have the base at hand, so that no row pays for it."""


@runtime_checkable
class Builder(Tool, Protocol):
    """A builder of images under measurement."""

    base: str  # what stands behind FROM

    def build(self, context: Path, *options: str) -> Sample: ...

    def export(self, context: Path, archive: Path) -> Sample:
        """Write the image that was last built from this context to an archive."""

    def push(self, context: Path, name: str) -> Sample:
        """Push the image that was last built from this context to a registry."""


@runtime_checkable
class PackageTool(Protocol):
    """A builder of packages under measurement."""

    def write_packages(self, directory: Path, chains: int, length: int, salt: str) -> None:
        """Definitions of so many chains of packages, and of one that needs all of them."""

    def build_packages(self, directory: Path) -> Sample: ...


@runtime_checkable
class BundleTool(Protocol):
    """What makes a ZIP of a repository's commit, under measurement."""

    def bundle(self, repository: Path, directory: Path) -> Sample: ...


def succeeds(*command: str) -> bool:
    try:
        run(command)
    except (OSError, CommandFailedError):
        return False
    return True


@dataclass
class Boxwright:
    """The checkout's program with a store of its own."""

    home: Path
    name: str = "boxwright"
    base: str = "debian:bookworm"
    peak_bytes: int = field(default=0, init=False)

    def answers(self) -> bool:
        return True

    def prepare(self, base_tar: Path) -> None:
        """It makes the base itself, once; `base_tar` is for the others."""
        context = base_tar.parent / "warm"
        context.mkdir(exist_ok=True)
        (context / "Dockerfile").write_text(f"FROM {self.base}\nRUN true\n")
        self.build(context)
        self.peak_bytes = 0  # making a base is not what the rows measure

    def build(self, context: Path, *options: str) -> Sample:
        return self._run("build", context, "-f", context / "Dockerfile", "-q", *options)

    def export(self, context: Path, archive: Path) -> Sample:
        return self.build(context, "-o", f"oci-archive:{archive}")

    def write_packages(self, directory: Path, chains: int, length: int, salt: str) -> None:
        """Each with the bare base system as its toolchain."""
        tree = directory / "packages" / "bench"
        common = f"version: 1\ntoolchain: {{base: {self.base}, packages: []}}\n"
        for chain in range(chains):
            for number in range(length):
                name = f"p{chain}-{number}"
                before = f"depends: [bench/p{chain}-{number - 1}]\n" if number else ""
                script = f"mkdir -p $DESTDIR/usr/share && echo {salt} > $DESTDIR/usr/share/{name}"
                (tree / name).mkdir(parents=True)
                text = f"name: {name}\n{common}{before}phases:\n  install: {script}\n"
                (tree / name / "pkg.yaml").write_text(text)
        ends = ", ".join(f"bench/p{chain}-{length - 1}" for chain in range(chains))
        (tree / "all").mkdir()
        (tree / "all" / "pkg.yaml").write_text(f"name: all\n{common}depends: [{ends}]\n")

    def build_packages(self, directory: Path) -> Sample:
        return self._run("build", directory / "packages" / "bench" / "all", "-q")

    def bundle(self, repository: Path, directory: Path) -> Sample:
        """Write the ZIP with what belongs to it."""
        return self._run("bundle", repository, "-o", directory)

    def push(self, context: Path, name: str) -> Sample:
        self.build(context, "-t", "boxwright-bench")
        return self._run("push", "boxwright-bench", name)

    def _run(self, *arguments: str | Path) -> Sample:
        sample = run([ROOT / "boxwright", *arguments], {"BOXWRIGHT_HOME": str(self.home)})
        self.peak_bytes = max(self.peak_bytes, sample.peak_bytes)
        return sample


@dataclass
class BuildKit:
    """The BuildKit inside the distribution's docker.io, through its own client."""

    name: str = "BuildKit"
    base: str = "boxwright-bench-base"
    program: str = "/usr/bin/docker"

    def answers(self) -> bool:
        return succeeds(self.program, "info")

    def prepare(self, base_tar: Path) -> None:
        run([self.program, "import", base_tar, self.base])

    def build(self, context: Path, *options: str) -> Sample:
        command: list[str | Path] = [self.program, "build", "-q", "-t", "boxwright-bench", *options, context]
        return run(command, {"DOCKER_BUILDKIT": "1"})

    def export(self, context: Path, archive: Path) -> Sample:
        """Not compressed: this version writes no compressed archive."""
        del context
        return run([self.program, "save", "-o", archive, "boxwright-bench"])

    def push(self, context: Path, name: str) -> Sample:
        """In its own layers: the changed file is in one of its own."""
        del context
        run([self.program, "tag", "boxwright-bench", name])
        return run([self.program, "push", "-q", name])


@dataclass
class Buildah:
    """Buildah without a runtime (chroot), with a store of its own."""

    home: Path
    name: str = "buildah"
    base: str = "localhost/boxwright-bench-base"

    def answers(self) -> bool:
        return succeeds("buildah", "info")

    def prepare(self, base_tar: Path) -> None:
        context = base_tar.parent / "buildah-base"
        context.mkdir(exist_ok=True)
        (context / base_tar.name).unlink(missing_ok=True)
        (context / base_tar.name).hardlink_to(base_tar)
        (context / "Dockerfile").write_text(f"FROM scratch\nADD {base_tar.name} /\nCMD /bin/sh\n")
        self._run("bud", "-q", "-t", self.base, context)

    def build(self, context: Path, *options: str) -> Sample:
        return self._run(
            "bud", "-q", "--isolation", "chroot", "--layers", "--jobs", "8", "-t", "boxwright-bench", *options, context
        )

    def export(self, context: Path, archive: Path) -> Sample:
        """Compressed with gzip: this version knows no other for archives."""
        del context
        return self._run("push", "-q", "boxwright-bench", f"oci-archive:{archive}")

    def push(self, context: Path, name: str) -> Sample:
        """In its own layers, as above."""
        del context
        return self._run("push", "-q", "--tls-verify=false", "boxwright-bench", f"docker://{name}")

    def _run(self, *arguments: str | Path) -> Sample:
        store = ("--root", self.home / "root", "--runroot", self.home / "run")
        return run(("buildah", *store, *arguments), containers_configuration())


@dataclass
class BuildStream:
    """BuildStream from the package index, in a virtual environment of its own, with a cache of its own."""

    home: Path
    name: str = "BuildStream"
    version: str = "2.8.1"
    environment: Path = ROOT / ".cache" / "buildstream"

    def answers(self) -> bool:
        program = self.environment / "bin" / "bst"
        if not succeeds("bwrap", "--version"):
            return False
        if not succeeds(str(program), "--version"):
            pip = self.environment / "bin" / "pip"
            if not succeeds("python3", "-m", "venv", str(self.environment)):
                return False
            if not succeeds(str(pip), "install", "--quiet", f"buildstream=={self.version}"):
                return False
        return succeeds(str(program), "--version")

    def prepare(self, base_tar: Path) -> None:
        """Its base is one static program."""
        directory = base_tar.parent / "buildstream-base"
        directory.mkdir(exist_ok=True)
        self.write_packages(directory, 1, 1, "warm")
        self.build_packages(directory)

    def write_packages(self, directory: Path, chains: int, length: int, salt: str) -> None:
        """Elements of kind `manual`; nothing is stripped."""
        elements = directory / "elements"
        elements.mkdir(exist_ok=True)
        (directory / "project.conf").write_text("name: bench\nmin-version: 2.0\nelement-path: elements\n")
        programs = directory / "root" / "bin"
        programs.mkdir(parents=True, exist_ok=True)
        shutil.copy("/bin/busybox", programs / "busybox")
        for name in ("sh", "mkdir", "echo"):
            (programs / name).unlink(missing_ok=True)
            (programs / name).symlink_to("busybox")
        (elements / "base.bst").write_text("kind: import\nsources:\n- kind: local\n  path: root\n")
        for chain in range(chains):
            for number in range(length):
                name = f"p{chain}-{number}"
                before = f"depends:\n- p{chain}-{number - 1}.bst\n" if number else ""
                command = f"mkdir -p %{{install-root}}/share && echo {salt} > %{{install-root}}/share/{name}"
                (elements / f"{name}.bst").write_text(
                    f"kind: manual\nbuild-depends:\n- base.bst\n{before}variables:\n  strip-binaries: ''\n"
                    f"config:\n  install-commands:\n  - {command}\n"
                )
        ends = "".join(f"- p{chain}-{length - 1}.bst\n" for chain in range(chains))
        (elements / "all.bst").write_text(f"kind: stack\ndepends:\n{ends}")

    def build_packages(self, directory: Path) -> Sample:
        places = {"XDG_CACHE_HOME": str(self.home / "cache"), "XDG_CONFIG_HOME": str(self.home / "config")}
        command: list[str | Path] = [
            self.environment / "bin" / "bst",
            "--no-interactive",
            "-C",
            directory,
            "build",
            "all.bst",
        ]
        return run(command, places)


@dataclass
class GitArchive:
    """`git archive --format=zip`, which makes ZIPs of commits and builds nothing."""

    name: str = "git archive"

    def answers(self) -> bool:
        return succeeds("git", "--version")

    def prepare(self, base_tar: Path) -> None:
        """Nothing is needed."""

    def bundle(self, repository: Path, directory: Path) -> Sample:
        """Write the ZIP."""
        directory.mkdir(exist_ok=True)
        return run(["git", "-C", repository, "archive", "--format=zip", "-o", directory / "archive.zip", "HEAD"])
