"""Headers of tar members: POSIX.1-2001 ustar, and pax records for what does not fit (pax, "pax Header Block").

Owners are numbers and their names empty. Names that are not ASCII go into pax records as UTF-8; names that are no
UTF-8 at all stand as they are, in the ustar field where they fit. Extended attributes are SCHILY.xattr.NAME records
(OCI image-spec, layer.md, "File Attributes").
"""

from __future__ import annotations

from boxwright.model.tree import BLOCK, CHAR, DIRECTORY, FIFO, FILE, SYMLINK, Entry, decode_xattrs

BLOCK_SIZE = 512
END = bytes(2 * BLOCK_SIZE)

_TYPES = {FILE: b"0", SYMLINK: b"2", CHAR: b"3", BLOCK: b"4", DIRECTORY: b"5", FIFO: b"6"}
_LINK = b"1"
_MAX_7 = 8**7 - 1
_MAX_11 = 8**11 - 1
_NO_DEVICE = b"0000000\x000000000\x00"
_NUMBERS = b"%07o\x00%07o\x00%07o\x00%011o\x00%011o\x00"
_HEADER = b"%s%s%06o\x00 %s%sustar\x0000%s%s%s%s"
_CONSTANT_SUM = sum(b"        ustar\x0000")
_NAMES = bytes(64)
_FILL = bytes(12)
_NO_LINK = bytes(100)
_NO_PREFIX = bytes(155)


def ustar(name: bytes, entry: Entry, kind: bytes, size: int, link: bytes = b"", prefix: bytes = b"") -> bytes:
    """A ustar header of fields that fit."""
    device = _NO_DEVICE
    if kind in b"34":
        major, _, minor = entry.data.partition(":")
        device = b"%07o\x00%07o\x00" % (min(int(major), _MAX_7), min(int(minor), _MAX_7))
    numbers = _NUMBERS % (entry.mode & 0o7777, entry.uid, entry.gid, size, entry.mtime)
    total = sum(name) + sum(numbers) + kind[0] + sum(link) + sum(device) + sum(prefix) + _CONSTANT_SUM
    name = name.ljust(100, b"\0")
    link = link.ljust(100, b"\0") if link else _NO_LINK
    prefix = prefix.ljust(155, b"\0") if prefix else _NO_PREFIX
    return _HEADER % (name, numbers, total, kind, link, _NAMES, device, prefix, _FILL)


def member_header(path: bytes, entry: Entry, link: bytes | None, *, gnu_targets: bool = False) -> bytes:
    """Everything before a member's content: pax records if they are needed, and the ustar header.

    `path` ends in a slash for a directory; `link` is what a hard link names, within the archive. `gnu_targets`: the
    target of a symbolic link that does not fit goes into GNU tar's own header, for mksquashfs.
    """
    kind, size, target = _TYPES.get(entry.kind, _LINK), 0, b""
    if link is not None:
        kind, target = _LINK, link
    elif entry.kind == FILE:
        size = entry.size
    elif entry.kind == SYMLINK:
        target = entry.data.encode("utf-8", "surrogateescape")
    name, prefix = path, b""
    if (
        len(path) <= 100
        and len(target) <= 100
        and not entry.xattrs
        and path.isascii()
        and target.isascii()
        and 0 <= entry.mtime <= _MAX_11
        and entry.uid <= _MAX_7
        and entry.gid <= _MAX_7
        and size <= _MAX_11
    ):
        return ustar(name, entry, kind, size, target)
    records: dict[bytes, bytes] = {}
    name, prefix = _fit_path(path, records)
    before = b""
    if gnu_targets and entry.kind == SYMLINK:
        before, target = _gnu_target(target), target[:100]
    else:
        target = _fit_link(target, records)
    fitting, size = _fit_numbers(entry, size, records)
    if link is None:
        for attribute, value in decode_xattrs(entry.xattrs):
            records[b"SCHILY.xattr." + _keyword(attribute)] = value
    head = ustar(name, fitting, kind, size, target, prefix)
    return before + (_extended(path, records) + head if records else head)


def _fit_path(path: bytes, records: dict[bytes, bytes]) -> tuple[bytes, bytes]:
    """Name and prefix for `path`; a pax record where these can't hold it."""
    plain = path.isascii() or not _is_utf8(path)
    if plain and len(path) <= 100:
        return path, b""
    if plain and len(path) <= 256:
        cut = path.rfind(b"/", 0, min(156, len(path) - 1))
        if cut > 0 and len(path) - cut - 1 <= 100:
            return path[cut + 1 :], path[:cut]
    records[b"path"] = path
    return path[:100], b""


def _fit_link(target: bytes, records: dict[bytes, bytes]) -> bytes:
    if len(target) <= 100 and (target.isascii() or not _is_utf8(target)):
        return target
    records[b"linkpath"] = target
    return target[:100]


def _gnu_target(target: bytes) -> bytes:
    """GNU tar's header for a long target, where one is needed."""
    if len(target) <= 100:
        return b""
    body = target + b"\0"
    owner = Entry(FILE, "", 0o644, 0, 0, 0, len(body), "")
    return ustar(b"././@LongLink", owner, b"K", len(body)) + body + bytes(-len(body) % BLOCK_SIZE)


def _fit_numbers(entry: Entry, size: int, records: dict[bytes, bytes]) -> tuple[Entry, int]:
    """The entry with numbers that ustar can hold, and the size likewise."""
    if not 0 <= entry.mtime <= _MAX_11:
        records[b"mtime"] = b"%d" % entry.mtime
        entry = entry._replace(mtime=0)
    if entry.uid > _MAX_7:
        records[b"uid"] = b"%d" % entry.uid
        entry = entry._replace(uid=0)
    if entry.gid > _MAX_7:
        records[b"gid"] = b"%d" % entry.gid
        entry = entry._replace(gid=0)
    if size > _MAX_11:
        records[b"size"] = b"%d" % size
        size = 0
    return entry, size


def _keyword(attribute: str) -> bytes:
    """An attribute's name in a record, where "=" ends the keyword: escaped as GNU tar does, only where it must be."""
    raw = attribute.encode("utf-8", "surrogateescape")
    return raw.replace(b"%", b"%25").replace(b"=", b"%3D") if b"=" in raw else raw


def _is_utf8(text: bytes) -> bool:
    try:
        text.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _extended(path: bytes, records: dict[bytes, bytes]) -> bytes:
    """A pax extended header with its records, in the order of their keywords."""
    body = b"".join(_record(keyword, records[keyword]) for keyword in sorted(records))
    name = b"PaxHeaders/" + path.rstrip(b"/").rpartition(b"/")[2][:80]
    owner = Entry(FILE, "", 0o644, 0, 0, 0, len(body), "")
    return ustar(name, owner, b"x", len(body)) + body + bytes(-len(body) % BLOCK_SIZE)


def _record(keyword: bytes, value: bytes) -> bytes:
    """The length, a space, the keyword, "=", the value and a newline; the length counts itself."""
    rest = len(keyword) + len(value) + 3
    length = rest + len(str(rest))
    length = rest + len(str(length))
    return b"%d %s=%s\n" % (length, keyword, value)


def small_file(path: str, data: bytes, mtime: int) -> bytes:
    """A whole member: a file of root's."""
    owner = Entry(FILE, "", 0o644, 0, 0, mtime, len(data), "")
    return member_header(path.encode(), owner, None) + data + bytes(-len(data) % BLOCK_SIZE)


def small_directory(path: str, mtime: int) -> bytes:
    """A whole member: a directory of root's; `path` ends in a slash."""
    return member_header(path.encode(), Entry(DIRECTORY, "", 0o755, 0, 0, mtime, 0, ""), None)
