"""An image for lxc-create's `local` and `download` templates: a directory with rootfs.tar.xz and meta.tar.xz.

lxc-create -n NAME -t local -- --metadata DEST/meta.tar.xz --fstree DEST/rootfs.tar.xz
"""

from __future__ import annotations

from pathlib import Path

from boxwright.errors import BoxwrightError
from boxwright.images.artifact import WrittenArtifact
from boxwright.images.config import rfc3339
from boxwright.images.facts import LXC_ARCHITECTURES, TreeFacts, facts_of
from boxwright.images.layer import Packing, write_layer
from boxwright.images.lxd import description
from boxwright.images.paths import fresh_directory, is_empty, not_empty, telling
from boxwright.images.pipeline import Pipeline
from boxwright.images.streams import write_stream
from boxwright.images.tarheader import small_file
from boxwright.images.tarstream import write_end
from boxwright.model.image import Image, ImageConfig
from boxwright.ports import TreeReader

ROOTFS, META = "rootfs.tar.xz", "meta.tar.xz"
_USUAL_WAYS = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def write_lxc(image: Image, reader: TreeReader, destination: Path, name: str, level: int | None) -> WrittenArtifact:
    """Write both archives. A directory that holds just these two is written anew."""
    with telling(destination):
        ours = destination.is_dir() and {path.name for path in destination.iterdir()} <= {ROOTFS, META}
        if not ours and not is_empty(destination):
            raise not_empty(destination, "an LXC image")
    facts = facts_of(reader, image.snapshot)
    with fresh_directory(destination, replace=ours) as temporary:
        with (temporary / ROOTFS).open("xb") as file:
            root = write_layer(file, image, reader, Packing("xz", level))
        with (temporary / META).open("xb") as file:
            meta = write_stream(file, lambda out: _write_meta(out, image, facts, name), "xz", level)
    return WrittenArtifact("lxc", destination, root.digest, root.size + meta.size)


def _write_meta(out: Pipeline, image: Image, facts: TreeFacts, name: str) -> None:
    time = max(image.created, 0)
    for path, text in sorted(meta_files(image, facts, name).items()):
        out.write(small_file(path, text.encode("utf-8", "surrogateescape"), time))
    write_end(out)


def meta_files(image: Image, facts: TreeFacts, name: str) -> dict[str, str]:
    """The files that the templates look for; those that end in -user are for unprivileged containers."""
    arch = LXC_ARCHITECTURES.get(image.config.architecture, image.config.architecture).partition("\n")[0]
    common = f"lxc.include = LXC_TEMPLATE_CONFIG/common.conf\nlxc.arch = {arch}\n"
    program = "" if facts.is_system else _application(image.config)
    message = f"{description(image, facts, name)}\nMade by boxwright at {rfc3339(image.created)}.\n"
    return {
        "build_id": f"{image.identity}\n",
        "config": common + program,
        "config-user": f"lxc.include = LXC_TEMPLATE_CONFIG/common.conf\n"
        f"lxc.include = LXC_TEMPLATE_CONFIG/userns.conf\nlxc.arch = {arch}\n" + program,
        "create-message": message,
        "excludes-user": "dev/*\n",
        "templates": "etc/hostname\netc/hosts\n" if facts.is_system else "",
    }


def _application(config: ImageConfig) -> str:
    """What LXC starts instead of an init (lxc.container.conf(5)).

    Raises `output.lxc` for what would be a line of its own: such a line may name a program of the host's.
    """
    lines: list[str] = []
    command = (*(config.entrypoint or ()), *(config.cmd or ()))
    if command:
        lines.append("lxc.init.cmd = " + " ".join(_quoted(word) for word in command))
    if config.workdir:
        lines.append(f"lxc.init.cwd = {config.workdir}")
    user, _, group = config.user.partition(":")
    if user.isdecimal():
        lines.append(f"lxc.init.uid = {user}")
        if group.isdecimal():
            lines.append(f"lxc.init.gid = {group}")
    environment = {"PATH": _USUAL_WAYS} | dict(config.env)
    lines += [f"lxc.environment = {key}={value}" for key, value in environment.items() if "\n" not in key + value]
    if config.stop_signal:
        lines.append(f"lxc.signal.halt = {config.stop_signal}")
    for line in lines:
        if "\n" in line:
            key, _, value = line.partition(" = ")
            hint = "put the command into a script of the image"
            raise BoxwrightError("output.lxc", f"{key} of LXC's configuration is one line, not {value!r}", hint=hint)
    return "".join(f"{line}\n" for line in lines)


def _quoted(word: str) -> str:
    """A word of lxc.init.cmd, which LXC splits at spaces outside of quotes; it knows no escapes."""
    if word and not any(mark in word for mark in " \t'\""):
        return word
    return f"'{word}'" if "'" not in word else f'"{word}"'
