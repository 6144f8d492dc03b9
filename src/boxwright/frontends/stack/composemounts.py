"""What a service of a Compose file is given: ports, volumes, secrets, configs."""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Iterator
from collections.abc import Mapping as Map
from typing import NamedTuple

from boxwright.frontends.package.document import Mapping, Place, Scalar, Value
from boxwright.frontends.package.problem import nearest
from boxwright.frontends.stack import composekeys, values
from boxwright.frontends.stack.composevalues import (
    Notes,
    flag,
    given,
    items_of,
    mapping,
    mapping_or_empty,
    of_type,
    one_of,
    place_in,
    text_of,
)
from boxwright.frontends.stack.problem import wrong
from boxwright.model.span import Span
from boxwright.model.stack import FileUse, SecretUse, StackPublished, VolumeUse, is_path

ALIKE = ("consistent", "cached", "delegated")
"""Modes of a mount that mean nothing on Linux."""
LEFT_OUT = ("z", "Z", "nocopy", "shared", "slave", "private", "rshared", "rslave", "rprivate")
MODES = ("ro", "rw", *ALIKE, *LEFT_OUT)


class ComposeWorld(NamedTuple):
    """What a Compose file may ask for: paths beside it, texts of env files, the environment, profiles.

    `project` is the stack's name, and `directory` that of one which has none otherwise; `engine` is what runs it.
    """

    locate: Callable[[str, str], str | None]
    read: Callable[[str], str]
    variables: Map[str, str]
    profiles: tuple[str, ...]
    project: str
    engine: str
    directory: str = ""


class Source(NamedTuple):
    """The file that is read: its document, what it may ask for, and what is said of it."""

    document: Mapping
    file: str
    world: ComposeWorld
    notes: Notes

    def find(self, text: str, place: Place) -> str:
        """The path of something beside the file. Raises `stack.no-file`."""
        found = self.locate(text)
        if found is None:
            raise wrong("no-file", f"{text} is not there", place.span)
        return found

    def locate(self, text: str) -> str | None:
        """The same; None where it is not there."""
        return self.world.locate(posixpath.dirname(self.file) or ".", text)


def ports(source: Source, it: Mapping, what: str) -> Iterator[tuple[StackPublished, Span]]:
    """The entries of `ports`, each with its place: a range is several."""
    for item in items_of(it, "ports"):
        if isinstance(item, Scalar):
            yield from ((port, item.place.span) for port in values.ports(item.text, item.place.span))
            continue
        long = of_type(item, Mapping)
        source.notes.check(long, composekeys.PORT, f"a port of {what}")
        if one_of(long, "mode", ("host", "ingress")) == "host":
            source.notes.leave_out(place_in(long, "mode"), f"mode host of a port of {what}")
        protocol, address = text_of(long, "protocol") or "tcp", text_of(long, "host_ip")
        target, host = text_of(long, "target"), text_of(long, "published")
        where = place_in(long, "target").span
        yield from ((port, where) for port in values.joined_ports(target, host, protocol, address, where))


def mounts(source: Source, it: Mapping, what: str) -> Iterator[VolumeUse]:
    """The entries of `volumes`."""
    for item in items_of(it, "volumes"):
        use = _short(source, item, what) if isinstance(item, Scalar) else _long(source, of_type(item, Mapping), what)
        if use is not None:
            yield _found(source, use, item.place)


def _short(source: Source, item: Scalar, what: str) -> VolumeUse:
    """``[SOURCE:]TARGET[:MODE[,MODE]]``."""
    parts = item.text.split(":")
    modes = parts.pop().split(",") if len(parts) == 3 else []
    hint = "NAME:/TARGET[:ro] or ./PATH:/TARGET[:ro]"
    if len(parts) > 2 or not all(parts):
        raise wrong("value", f"{item.text!r} is no volume", item.place.span, hint=hint)
    for mode in modes:
        if mode not in MODES:
            raise wrong("value", f"{mode!r} is no mode of a volume", item.place.span, hint=nearest(mode, MODES))
        if mode in LEFT_OUT:
            source.notes.leave_out(item.place, f"{mode} of the volume {item.text} of {what}")
    return VolumeUse(parts[0] if len(parts) == 2 else "", parts[-1], "ro" in modes)


def _long(source: Source, item: Mapping, what: str) -> VolumeUse | None:
    called = f"a volume of {what}"
    source.notes.check(item, composekeys.MOUNT, called)
    kind = one_of(item, "type", ("volume", "bind", "tmpfs", "image", "cluster", "npipe"), "volume")
    for key, keys in composekeys.MOUNT_PARTS.items():
        source.notes.check(mapping(item, key), keys, f"{key} of {called}")
    if kind not in ("volume", "bind"):
        source.notes.leave_out(item.place, f"a mount of type {kind} of {what}")
        return None
    use = VolumeUse(text_of(item, "source"), text_of(item, "target"), flag(item, "read_only", default=False))
    if kind == "bind" and not use.source:
        raise wrong("volume", "what of the host should be mounted?", item.place.span, hint="source: ./PATH")
    if kind == "bind" and not is_path(use.source):
        return use._replace(source=f"./{use.source}")
    return use


def _found(source: Source, use: VolumeUse, place: Place) -> VolumeUse:
    """With the path of the host that it names, or the volume that the file declares."""
    if not use.target.startswith("/") or not use.target.strip("/"):
        where = f"where should {use.source} be mounted?" if use.source else f"{use.target!r} is no place for a volume"
        raise wrong("volume", where, place.span, hint="a path from the root, such as /var/lib/app")
    if is_path(use.source) or use.source.startswith("~"):
        return use._replace(source=source.find(use.source, place))
    declared = mapping(source.document, "volumes").items
    if use.source and use.source not in declared:
        hint = nearest(use.source, declared) or f"volumes: {{{use.source}: }}"
        raise wrong("volume", f"there is no volume {use.source!r}", place.span, hint=hint)
    return use


class Used(NamedTuple):
    """A secret or a config in the hands of a service."""

    name: str
    target: str
    mode: int
    place: Place


def secrets(source: Source, it: Mapping, what: str) -> Iterator[SecretUse]:
    """The entries of `secrets`."""
    for use in _used(source, it, "secrets", composekeys.SECRET_USE, what):
        target = use.target if use.target.startswith("/") else f"/run/secrets/{use.target or use.name}"
        yield SecretUse(use.name, target)


def configs(source: Source, it: Mapping, what: str) -> Iterator[FileUse]:
    """The entries of `configs`; those that come from no file are named where they are declared."""
    for use in _used(source, it, "configs", composekeys.CONFIG_USE, what):
        config = mapping_or_empty(mapping(source.document, "configs").items[use.name])
        file = given(config, "file")
        if file is None:
            source.notes.leave_out(use.place, f"the config {use.name} of {what}, which comes from no file,")
            continue
        path = source.find(of_type(file, Scalar).text, file.place)
        yield FileUse(path, use.target if use.target.startswith("/") else f"/{use.target or use.name}", use.mode)


def _used(source: Source, it: Mapping, key: str, keys: composekeys.Keys, what: str) -> Iterator[Used]:
    declared = mapping(source.document, key).items
    one = key.removesuffix("s")
    for item in items_of(it, key):
        use = _use(source, item, keys, what)
        if use.name not in declared:
            hint = nearest(use.name, declared)
            raise wrong("secret", f"there is no {one} {use.name!r}", use.place.span, hint=hint)
        yield use


def _use(source: Source, item: Value, keys: composekeys.Keys, what: str) -> Used:
    if isinstance(item, Scalar):
        return Used(item.text, "", 0o444, item.place)
    long = of_type(item, Mapping)
    source.notes.check(long, keys, f"what {what} uses")
    name = text_of(long, "source")
    if not name:
        raise wrong("secret", "which one is used?", long.place.span, hint="source: NAME")
    mode = text_of(long, "mode") if "mode" in keys.read else ""
    return Used(name, text_of(long, "target"), _mode(mode, place_in(long, "mode").span), long.place)


def _mode(text: str, where: Span) -> int:
    """``0440``, octal, as YAML and Compose have it."""
    digits = text.removeprefix("0o")
    if text and (not digits.isdecimal() or not digits.isascii() or set(digits) & {"8", "9"} or int(digits, 8) > 0o777):
        raise wrong("value", f"{text!r} is no mode", where, hint="octal, such as 0440")
    return int(digits, 8) if text else 0o444
