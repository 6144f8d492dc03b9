"""A tree as a squashfs, made by mksquashfs (squashfs-tools 4.5 or newer) from our own tar.

Not by sqfstar: that of 4.5.1 refuses a compressor's options. Reading a tar, mksquashfs 4.5.1 takes the root's mode
alone from its options and gives it the time of the clock; SOURCE_DATE_EPOCH at the newest time of the
tree sets that, and the file system's own time, without touching any other. So the root's owner and attributes are lost.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path

from boxwright.errors import BoxwrightError, MachineError, UsageError
from boxwright.images.artifact import WrittenArtifact
from boxwright.images.child import feed
from boxwright.images.compression import LEVELS
from boxwright.images.layer import Packing
from boxwright.images.paths import fresh_file, no_space
from boxwright.images.pipeline import Pipeline
from boxwright.images.streams import write_stream
from boxwright.images.tarstream import write_end, write_tree
from boxwright.model.digest import digest_from_hex
from boxwright.model.image import Image
from boxwright.ports import TreeReader

_ZSTD_LEVEL = 3
_UNCOMPRESSED = ("-noI", "-noD", "-noF", "-noX")
_MEMORY = "256M"
_LATEST = 2**32 - 1


def write_squashfs(image: Image, reader: TreeReader, destination: Path, packing: Packing) -> WrittenArtifact:
    """Write it."""
    program = shutil.which("mksquashfs")
    if program is None:
        raise MachineError(
            "output.no-mksquashfs",
            "the program mksquashfs is missing",
            hint="apt-get install squashfs-tools (4.5 or newer)",
        )

    def produce(out: Pipeline) -> None:
        write_tree(out, reader, image.snapshot, for_squashfs=True)
        write_end(out)

    newest = max(file.entry.mtime for file in reader.walk(image.snapshot))
    environment = {**os.environ, "SOURCE_DATE_EPOCH": str(min(max(newest, 0), _LATEST))}
    with fresh_file(destination) as temporary:
        command = [program, "-", str(temporary), "-tar", *_options(image, reader, packing)]
        ended = feed(command, lambda sink: write_stream(sink, produce, "none"), environment)
        if ended.status or not temporary.exists():
            if "No space left" in ended.said:
                raise no_space(destination, "No space left on device")
            raise BoxwrightError("output.failed", f"mksquashfs could not write {destination}: {ended.said}")
        with temporary.open("rb") as file:
            digest = digest_from_hex(hashlib.file_digest(file, "sha256").hexdigest())
        size = temporary.stat().st_size
    return WrittenArtifact("squashfs", destination, digest, size)


def _options(image: Image, reader: TreeReader, packing: Packing) -> list[str]:
    root = next(iter(reader.walk(image.snapshot))).entry
    options = ["-reproducible", "-exit-on-error", "-quiet", "-no-progress", "-mem", _MEMORY]
    options += ["-root-mode", f"{root.mode & 0o7777:o}", "-root-uid", str(root.uid), "-root-gid", str(root.gid)]
    if packing.compression == "none":
        return [*options, *_UNCOMPRESSED]
    if packing.compression not in LEVELS:
        known = ", ".join(("none", *LEVELS))
        raise UsageError(
            "output.unknown-compression", f"a squashfs can't be {packing.compression!r}", hint=f"one of {known}"
        )
    options += ["-comp", packing.compression]
    level = packing.level or (_ZSTD_LEVEL if packing.compression == "zstd" else None)
    return options if level is None or packing.compression == "xz" else [*options, "-Xcompression-level", str(level)]
