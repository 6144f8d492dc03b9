"""A small mirror of Alpine packages (format 2) by tarfile, gzip and openssl alone."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import subprocess
import tarfile
from base64 import b64encode
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

ARCHITECTURE = os.uname().machine
KEY = "tester@example.org-5f000000.rsa.pub"
BUILT = 1_700_000_000
LIBC = f"so:libc.musl-{ARCHITECTURE}.so.1"
INSTALL = b"#!/bin/busybox sh\nexec /bin/busybox --install -s\n"


def make_key(directory: Path, name: str = KEY) -> Path:
    """A private key; its public half is beside it under `name`."""
    directory.mkdir(parents=True, exist_ok=True)
    private = directory / "private.pem"
    subprocess.run(["openssl", "genrsa", "-out", private, "2048"], check=True, capture_output=True)
    public = ["openssl", "rsa", "-in", str(private), "-pubout", "-out", str(directory / name)]
    subprocess.run(public, check=True, capture_output=True)
    return private


def directory(name: str, mode: int = 0o755) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.mode = tarfile.DIRTYPE, mode
    return member


def link(name: str, target: str) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = tarfile.SYMTYPE, target
    return member


def file(name: str, mode: int = 0o644, owner: str = "root", group: str = "root", uid: int = 0) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.mode, member.uname, member.gname, member.uid = mode, owner, group, uid
    return member


def segment(members: list[tuple[tarfile.TarInfo, bytes]], *, end: bool) -> bytes:
    """A tar, gzipped; without its end mark where more follows."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for member, data in members:
            member.size, member.mtime = len(data), BUILT - 1000
            if data:
                member.pax_headers = {"APK-TOOLS.checksum.SHA1": hashlib.sha1(data).hexdigest()}
            archive.addfile(member, io.BytesIO(data))
        length = archive.offset
    return gzip.compress(stream.getvalue() if end else stream.getvalue()[:length], mtime=0)


def signature(signed: bytes, private: Path, name: str, algorithm: str) -> bytes:
    sign = ["openssl", "dgst", "-sha1" if algorithm == "RSA" else "-sha256", "-sign", private]
    made = subprocess.run(sign, input=signed, check=True, capture_output=True).stdout
    return segment([(tarfile.TarInfo(f".SIGN.{algorithm}.{name}"), made)], end=False)


@dataclass
class Mirror:
    """Packages below `root`; `publish` writes the signed index."""

    root: Path
    private: Path
    branch: str = "v3.20"
    repository: str = "main"
    key: str = KEY
    algorithm: str = "RSA"
    records: dict[str, str] = field(default_factory=dict)

    @property
    def place(self) -> Path:
        return self.root / self.branch / self.repository / ARCHITECTURE

    @property
    def url(self) -> str:
        return f"file://{self.root}"

    def add(
        self,
        name: str,
        version: str = "1.0-r0",
        files: Mapping[tarfile.TarInfo, bytes] | None = None,
        *,
        scripts: Mapping[str, bytes] | None = None,
        triggers: str = "",
        built: int = BUILT,
        **fields: str,
    ) -> Path:
        """A package; `fields` are letters of the index (D: depends, p: provides, i: install_if, k: priority)."""
        data = segment(list((files or {}).items()), end=True)
        info = f"pkgname = {name}\npkgver = {version}\ndatahash = {hashlib.sha256(data).hexdigest()}\n"
        info += f"triggers = {triggers}\n" if triggers else ""
        inside = [(tarfile.TarInfo(".PKGINFO"), info.encode())]
        inside += [(file(f".{kind}", 0o755), text) for kind, text in (scripts or {}).items()]
        control = segment(inside, end=False)
        path = self.place / f"{name}-{version}.apk"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(signature(control, self.private, self.key, self.algorithm) + control + data)
        checksum = "Q1" + b64encode(hashlib.sha1(control).digest()).decode()
        lines = {"C": checksum, "P": name, "V": version, "A": ARCHITECTURE, "S": str(path.stat().st_size)}
        lines |= {"I": "1", "T": "a package", "L": "MIT", "o": name, "t": str(built), **fields}
        self.records[f"{name}-{version}"] = "".join(f"{letter}:{text}\n" for letter, text in lines.items())
        return path

    def publish(self) -> Path:
        text = "\n".join(self.records.values()) + "\n"
        inside = [(tarfile.TarInfo("DESCRIPTION"), b"test"), (tarfile.TarInfo("APKINDEX"), text.encode())]
        index = segment(inside, end=True)
        path = self.place / "APKINDEX.tar.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(signature(index, self.private, self.key, self.algorithm) + index)
        return path


def fill(mirror: Mirror) -> None:
    """The packages that every base has, small; the program in them is Debian's static busybox."""
    names = (
        "bin",
        "dev",
        "etc",
        "etc/apk",
        "lib",
        "proc",
        "root",
        "run",
        "sbin",
        "sys",
        "tmp",
        "usr",
        "usr/bin",
        "usr/sbin",
    )
    layout: dict[tarfile.TarInfo, bytes] = {directory(name, 0o1777 if name == "tmp" else 0o755): b"" for name in names}
    layout |= {directory("var"): b"", directory("var/lib"): b"", link("var/run", "../run"): b""}
    layout[file("etc/passwd")] = b"root:x:0:0:root:/root:/bin/sh\nguest:x:405:100:guest:/dev/null:/sbin/nologin\n"
    layout[file("etc/group")] = b"root:x:0:root\nshadow:x:42:\nusers:x:100:games\n"
    layout[file("etc/shadow", 0o640, group="shadow")] = b"root:*::0:::::\nguest:!::0:::::\n"
    # The two need each other, as the real ones do through /bin/sh.
    mirror.add("alpine-baselayout", "3.6.5-r0", layout, D="/bin/sh so:none.so.1", built=BUILT - 50)
    program = Path("/bin/busybox").read_bytes()
    busybox = {directory("bin"): b"", file("bin/busybox", 0o755): program, link("bin/sh", "/bin/busybox"): b""}
    mirror.add(
        "busybox",
        "1.36.1-r29",
        busybox,
        scripts={"post-install": b"#!/bin/busybox sh\n/bin/busybox mkdir -p /usr/bin /usr/sbin /sbin\n" + INSTALL[18:]},
        D=f"{LIBC} alpine-baselayout",
        p="/bin/sh cmd:busybox=1.36.1-r29 cmd:sh=1.36.1-r29",
    )
    mirror.add("musl", "1.2.5-r0", {directory("lib"): b"", file("lib/libc", 0o755): b"x"}, p=f"{LIBC}=1 so:none.so.1=1")
    public = (mirror.private.parent / mirror.key).read_bytes()
    mirror.add("alpine-keys", "2.4-r1", {file(f"etc/apk/keys/{mirror.key}"): public})
    release = {file("etc/alpine-release"): b"3.20.3\n", file("etc/os-release"): b'ID=alpine\nVERSION_ID="3.20.3"\n'}
    mirror.add("alpine-release", "3.20.3-r0", release, D="alpine-keys")
    mirror.add("apk-tools", "2.14.4-r1", {file("sbin/apk", 0o755): b"#!/bin/sh\necho apk\n"}, D="musl>=1.2")
    mirror.add("libc-utils", "0.7.2-r5", D="musl~1.2")


@contextmanager
def served(root: Path) -> Iterator[str]:
    """The directory over HTTP on loopback."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name there
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(root)))
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
