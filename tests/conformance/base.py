"""The base that cases start from, as an archive that docker loads and boxwright reads: busybox and things to meet."""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import tarfile
from pathlib import Path

NAME = "bwc/base"
BUSYBOX = Path("/bin/busybox")
CAPABILITY = (
    "\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"  # cap_net_bind_service=ep
)
TIME = 1_700_000_000
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

_PASSWD = (
    "root:x:0:0:root:/root:/bin/sh\n"
    "app:x:1000:1001:app:/home/app:/bin/sh\n"
    "other:x:2000:2000::/:/bin/sh\n"
    "42:x:7:8::/:/bin/sh\n"
)
_GROUP = "root:x:0:\napp:x:1001:\nstaff:x:50:app,other\nother:x:2000:\n"
_DIRECTORIES = {
    "bin": 0o755, "dev": 0o755, "etc": 0o755, "home": 0o755, "opt": 0o755, "proc": 0o755, "root": 0o700, "run": 0o755,
    "srv": 0o755, "sys": 0o755, "tmp": 0o1777, "usr": 0o755, "usr/bin": 0o755, "usr/lib": 0o755, "var": 0o755,
    # Places for mounts: docker 20.10 leaves those in the tree that were missing.
    "mnt": 0o755, "cache": 0o755, "other": 0o755, "c": 0o755, "t": 0o755, "run/secrets": 0o755,
    "data": 0o755, "data/sub": 0o750, "data/empty": 0o700, "data/shared": 0o2775,
}  # fmt: skip
_FILES = {
    "etc/passwd": (_PASSWD, 0o644), "etc/group": (_GROUP, 0o644), "data/a": ("A\n", 0o644), "data/b": ("B\n", 0o600),
    "data/sub/c": ("C\n", 0o640), "data/script": ("#!/bin/sh\necho script\n", 0o755), "data/set": ("set\n", 0o4755),
}  # fmt: skip
_LINKS = {
    "lib": "usr/lib", "var/run": "../run", "data/link": "a", "data/dirlink": "sub", "data/absolute": "/data/sub",
    "data/dangling": "nowhere", "srv/to-data": "/data", "data/loop": "loop",
}  # fmt: skip


def layer() -> bytes:
    """The base's one layer."""
    buffer = io.BytesIO()
    applets = subprocess.run([BUSYBOX, "--list"], capture_output=True, text=True, check=True).stdout.split()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, mode in _DIRECTORIES.items():
            _add(tar, name, tarfile.DIRTYPE, mode)
        _add(tar, "home/app", tarfile.DIRTYPE, 0o750, owner=(1000, 1001))
        _add(tar, "bin/busybox", data=BUSYBOX.read_bytes(), mode=0o755)
        for applet in applets:
            if applet != "busybox":
                _add(tar, f"bin/{applet}", tarfile.SYMTYPE, 0o777, link="busybox")
        for name, (text, mode) in _FILES.items():
            _add(tar, name, data=text.encode(), mode=mode)
        _add(tar, "home/app/own", data=b"own\n", mode=0o640, owner=(1000, 1001))
        for name, target in _LINKS.items():
            _add(tar, name, tarfile.SYMTYPE, 0o777, link=target)
        _add(tar, "data/hard", tarfile.LNKTYPE, 0o644, link="data/a")
        _add(tar, "data/capable", data=b"capable\n", mode=0o755, attributes={"security.capability": CAPABILITY})
    return buffer.getvalue()


def _add(
    tar: tarfile.TarFile,
    name: str,
    kind: bytes = tarfile.REGTYPE,
    mode: int = 0o644,
    *,
    data: bytes = b"",
    link: str = "",
    owner: tuple[int, int] = (0, 0),
    attributes: dict[str, str] | None = None,
) -> None:
    member = tarfile.TarInfo(name)
    member.type, member.mode, member.linkname, member.size, member.mtime = kind, mode, link, len(data), TIME
    member.uid, member.gid = owner
    member.pax_headers = {f"SCHILY.xattr.{key}": value for key, value in (attributes or {}).items()}
    tar.addfile(member, io.BytesIO(data))


def write_base(archive: Path) -> bytes:
    """Write a docker archive of the base; returns its layer."""
    content = layer()
    config = {
        "architecture": "amd64",
        "os": "linux",
        "created": "2023-11-14T22:13:20Z",
        "config": {"Env": [f"PATH={PATH}", "FROM_BASE=yes"], "Cmd": ["/bin/sh"], "Labels": {"base": "yes"}},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(content).hexdigest()}"]},
        "history": [{"created": "2023-11-14T22:13:20Z", "created_by": "conformance"}],
    }
    manifest = [{"Config": "config.json", "RepoTags": [f"{NAME}:latest"], "Layers": ["layer.tar"]}]
    with tarfile.open(archive, "w") as tar:
        _add(tar, "layer.tar", data=content)
        _add(tar, "config.json", data=json.dumps(config).encode())
        _add(tar, "manifest.json", data=json.dumps(manifest).encode())
    return content
