"""Source and binary packages of the machine's distribution, by apt: it checks the archive's signatures.

apt runs with directories of its own, so that the machine's lists stay as they are, with the machine's own sources, of
which source packages are switched on.
"""

from __future__ import annotations

import fcntl
import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cmp_to_key
from pathlib import Path

from boxwright.errors import FetchError
from boxwright.files import hash_file
from boxwright.model.debianname import is_package
from boxwright.sources.aptsources import read_sources
from boxwright.sources.pool import PoolFile
from boxwright.sources.process import Finished, require_program, run_program

Output = Callable[[bytes], None]
Files = tuple[tuple[str, str], ...]

FRESH_SECONDS = 600.0
"""Lists younger than this are not fetched again when something isn't found in them."""


def fetch_source(name: str, version: str, directory: str, apt: str, output: Output) -> Files:
    """Fetch a source package into `directory`; returns its files, the .dsc first, each with its hex SHA-256.

    `apt` is a directory that keeps apt's lists. Raises FetchError `source.fetch` or `source.checksum`.
    """
    _require_name(name, version)
    _apt_get(["source", "--download-only", "--only-source", "--", f"{name}={version}"], directory, apt, output)
    descriptions = [file for file in os.listdir(directory) if file.endswith(".dsc")]
    if len(descriptions) != 1:
        raise FetchError("source.fetch", f"apt fetched {len(descriptions)} descriptions of {name}={version}")
    description = descriptions[0]
    listed = dsc_files(Path(directory, description).read_text("utf-8", "replace"))
    for file, digest in listed:
        path = os.path.join(directory, file)
        if not os.path.exists(path) or hash_file(path) != digest:
            raise FetchError("source.checksum", f"{file} of {name}={version} is not what its description says")
    return ((description, hash_file(os.path.join(directory, description))), *listed)


def versions_with(name: str, sha256: str, apt: str, output: Output) -> tuple[str, ...]:
    """The versions of a source package that list a file with these bytes, as the archive's lists have them.

    The oldest comes first: a main archive keeps it, where a security archive drops each with the next. Raises
    FetchError `source.fetch` where there is none.
    """
    _require_name(name)
    _apt_get(["source", "--print-uris", "-qq", "--only-source", "--", name], apt, apt, output)
    listed = _run(["showsrc", "--only-source", "--", name], apt, apt, None, program="apt-cache")
    found = set()
    for stanza in listed.stdout.decode("utf-8", "replace").split("\n\n"):
        version = re.search(r"^Version: *(\S+)$", stanza, re.MULTILINE)
        if version and re.search(rf"^ {sha256} ", stanza, re.MULTILINE):
            found.add(version[1])
    if not found:
        raise FetchError("source.fetch", f"no version of the source package {name} holds a file with that sha256")
    return tuple(sorted(found, key=cmp_to_key(_compare)))


def _compare(one: str, other: str) -> int:
    later = run_program(["dpkg", "--compare-versions", one, "gt", other], package="dpkg").status == 0
    return 1 if later else -1


def dsc_files(text: str) -> Files:
    """The files that a source package's description lists, by SHA-256 (deb-src-control, "Checksums-Sha256")."""
    found = re.search(r"^Checksums-Sha256:\s*\n((?:[ \t]+\S.*\n?)+)", text, re.MULTILINE)
    if found is None:
        raise FetchError("source.checksum", "a source package's description lists no SHA-256")
    lines = [line.split() for line in found[1].splitlines()]
    files = tuple((words[2], words[0].lower()) for words in lines if len(words) == 3)
    if not files or any("/" in name or name.startswith(".") for name, _ in files):
        raise FetchError("source.checksum", "a source package's description lists files that can't be")
    return files


def find_source(name: str, version: str, apt: str, output: Output) -> tuple[PoolFile, ...]:
    """The files of a source package, the .dsc first, as the archive's signed lists have them; nothing is fetched.

    An empty version is the newest. Raises FetchError `source.fetch`.
    """
    stanza = _listed(["showsrc", "--only-source", "--", name], name, version, apt, output)
    directory = _field(stanza, "Directory")
    files = dsc_files(stanza)
    ordered = sorted(files, key=lambda file: (not file[0].endswith(".dsc"), file[0]))
    found = _field(stanza, "Version")
    return tuple(PoolFile(name, found, "source", digest, f"{directory}/{file}") for file, digest in ordered)


def find_binary(name: str, version: str, apt: str, output: Output, architecture: str = "") -> PoolFile:
    """The file of a binary package, as the archive's signed lists have it; nothing is fetched. As `find_source`.

    `architecture` is Debian's name of one, empty for this machine's; each needs a directory `apt` of its own.
    """
    stanza = _listed(["show", "--", f"{name}={version}" if version else name], name, version, apt, output, architecture)
    fields = (_field(stanza, field) for field in ("Version", "Architecture", "SHA256", "Filename"))
    return PoolFile(name, *fields)


def _listed(words: Sequence[str], name: str, version: str, apt: str, output: Output, architecture: str = "") -> str:
    """The description of a version in apt's lists, which are fetched anew where it isn't there."""
    _require_name(name, version)
    require_program("apt-get", "apt")
    os.makedirs(apt, exist_ok=True)
    with _alone(f"{apt}/lock"):
        stamp = f"{apt}/updated"
        fresh = not os.path.exists(stamp)
        if fresh:
            _update(apt, stamp, output, architecture)
        found = _stanzas(_run(words, apt, apt, None, "apt-cache", architecture), version)
        if not found and not fresh and time.time() - os.stat(stamp).st_mtime > FRESH_SECONDS:
            _update(apt, stamp, output, architecture)
            found = _stanzas(_run(words, apt, apt, None, "apt-cache", architecture), version)
    if not found:
        raise FetchError(
            "source.fetch",
            f"the distribution's archive has no {name} {version}".rstrip(),
            hint="archives drop old versions: `apt-cache policy` lists what there is; a lock keeps them",
        )
    return found[0]


def _require_name(name: str, version: str = "") -> None:
    """Raise where apt could take it for anything but a package."""
    if not is_package(name, version):
        raise FetchError("source.fetch", f"{name!r} {version!r} is no package of a distribution")


def _stanzas(done: Finished, version: str) -> list[str]:
    stanzas = done.stdout.decode("utf-8", "replace").split("\n\n") if not done.status else []
    return [text for text in stanzas if text.strip() and (not version or _field(text, "Version") == version)]


def debian_architecture(platform: str) -> str:
    """Debian's name of an OCI platform's architecture, such as armhf for linux/arm/v7."""
    name = platform.partition("/")[2]
    return {"386": "i386", "arm/v5": "armel", "arm/v6": "armel", "arm": "armhf", "arm/v7": "armhf", "arm64/v8": "arm64",
            "ppc64le": "ppc64el", "mips64le": "mips64el"}.get(name, name.partition("/")[0])  # fmt: skip


def _field(stanza: str, name: str) -> str:
    found = re.search(rf"^{name}: *(.*)$", stanza, re.MULTILINE)
    return found[1].strip() if found else ""


def unpack_binary(deb: str, directory: str) -> None:
    """Unpack the files of a binary package, without its scripts (deb(5)); every time in it is kept."""
    done = run_program(["dpkg-deb", "--extract", deb, directory], package="dpkg")
    if done.status:
        raise FetchError("source.damaged", f"{os.path.basename(deb)} can't be unpacked: {done.tail}")
    _merge_usr(directory)


def _merge_usr(directory: str) -> None:
    """Move what stands beside /usr into it, as the distribution's systems have it (Debian's usrmerge)."""
    import shutil

    for name in ("bin", "sbin", "lib", "lib32", "lib64", "libx32"):
        source, target = f"{directory}/{name}", f"{directory}/usr/{name}"
        if os.path.isdir(source) and not os.path.islink(source):
            os.makedirs(f"{directory}/usr", exist_ok=True)
            if os.path.isdir(target):
                shutil.copytree(source, target, symlinks=True, dirs_exist_ok=True)
                shutil.rmtree(source)
            else:
                os.rename(source, target)


def _apt_get(words: Sequence[str], directory: str, apt: str, output: Output) -> None:
    require_program("apt-get", "apt")
    os.makedirs(apt, exist_ok=True)
    with _alone(f"{apt}/lock"):
        stamp = f"{apt}/updated"
        if not os.path.exists(stamp):
            _update(apt, stamp, output)
        done = _run(words, directory, apt, output)
        if done.status and time.time() - os.stat(stamp).st_mtime > FRESH_SECONDS:
            _update(apt, stamp, output)
            done = _run(words, directory, apt, output)
    if done.status:
        said = [line for line in done.tail.splitlines() if line.startswith(("E:", "W:"))]
        raise FetchError(
            "source.fetch",
            f"apt-get {' '.join(words)} failed: {' '.join(said[-3:]) or done.tail[-300:]}",
            hint="archives drop old versions: `apt-cache policy` lists what there is; a lock keeps them",
        )


@contextmanager
def _alone(path: str) -> Iterator[None]:
    """Apt refuses to run twice on the same lists, and does not wait."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _update(apt: str, stamp: str, output: Output, architecture: str = "") -> None:
    for name in ("lists/partial", "cache/archives/partial", "state"):
        os.makedirs(f"{apt}/{name}", exist_ok=True)
    Path(f"{apt}/sources.list").write_text("".join(_lines()), "utf-8")
    Path(f"{apt}/state/status").touch()
    done = _run(["update", "--error-on=any"], apt, apt, output, architecture=architecture)
    if done.status:
        hint = "can this machine run `apt-get update`?"
        raise FetchError("source.fetch", f"apt's lists can't be fetched: {done.tail[-300:]}", hint=hint)
    Path(stamp).touch()
    os.utime(stamp)


def _lines() -> Iterator[str]:
    """The machine's sources of its own distribution, for binary and source packages."""
    for source in read_sources(Path("/etc/apt")):
        if source.signed_by and not source.signed_by.startswith(
            ("/usr/share/keyrings/debian-", "/usr/share/keyrings/ubuntu-")
        ):
            continue
        signed = f"[signed-by={source.signed_by}] " if source.signed_by else ""
        rest = f"{source.uri} {source.suite} {' '.join(source.components)}\n"
        yield f"deb {signed}{rest}"
        yield f"deb-src {signed}{rest}"


def _run(
    words: Sequence[str],
    directory: str,
    apt: str,
    output: Output | None,
    program: str = "apt-get",
    architecture: str = "",
) -> Finished:
    settings = {
        "Dir::Etc::SourceList": f"{apt}/sources.list",
        "Dir::Etc::SourceParts": "-",
        "Dir::State": f"{apt}/state",
        "Dir::State::Lists": f"{apt}/lists",
        "Dir::State::status": f"{apt}/state/status",
        "Dir::Cache": f"{apt}/cache",
        "APT::Sandbox::User": "root",
        "Acquire::Languages": "none",
        "Acquire::IndexTargets::deb::Contents-deb::DefaultEnabled": "false",
    }
    if architecture:
        settings |= {"APT::Architecture": architecture, "APT::Architectures": architecture}
    options = [word for name, value in settings.items() for word in ("-o", f"{name}={value}")]
    argv = ["env", f"--chdir={directory}", program, "-q", *options, *words]
    return run_program(argv, package="apt", output=output)
