"""A toolchain of this machine's own shell and tools: enough for packages that compile nothing, made in a moment."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

TOOLS = """sh bash tar find sort sed touch chmod mkdir cp dirname rm rmdir mv ln cat test true printf head od env sleep
    seq grep install gzip ls cut tr wc id xargs mktemp readlink basename expr uname date dd"""


def make_toolchain(archive: Path, work: Path) -> Path:
    """Write the tar `archive`."""
    root = work / "toolchain-root"
    for name in ("usr/bin", "etc", "tmp", "proc", "dev", "sys", "build"):
        (root / name).mkdir(parents=True)
    for name in ("bin", "lib", "lib64", "sbin"):
        (root / "usr" / name).mkdir(exist_ok=True)
        (root / name).symlink_to(f"usr/{name}")
    shutil.copy("/bin/busybox", root / "usr/bin/busybox")  # static: for programs that packages install
    libraries = set()
    for tool in TOOLS.split():
        path = shutil.which(tool)
        assert path, tool
        shutil.copy(path, root / "usr/bin" / tool)
        listed = subprocess.run(["ldd", path], capture_output=True, text=True, check=False).stdout
        libraries |= set(re.findall(r"(/\S+\.so\S*)", listed))
    for library in libraries:
        target = root / "usr" / library.removeprefix("/usr").lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(library, target)
    (root / "etc/passwd").write_text("root:x:0:0::/:/bin/sh\nbuild:x:1000:1000::/build:/bin/sh\n")
    (root / "etc/group").write_text("root:x:0:\nbuild:x:1000:\n")
    subprocess.run(["tar", "--owner=0", "--group=0", "-C", root, "-cf", archive, "."], check=True)
    shutil.rmtree(root)
    archive.chmod(0o644)
    return archive
