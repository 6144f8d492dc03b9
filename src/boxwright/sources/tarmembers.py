"""The members of a tar stream: POSIX.1-2017 pax interchange and ustar, and GNU's long names and large numbers.

Everything here comes from strangers: names stay bytes, sizes of extensions are bounded, sums are checked.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from boxwright.errors import FetchError
from boxwright.sources.compressed import damaged

BLOCK = 512
FILE, HARDLINK, SYMLINK, CHAR, BLOCK_DEVICE, DIRECTORY, FIFO = b"0", b"1", b"2", b"3", b"4", b"5", b"6"

_FILES = frozenset({b"0", b"\0", b"7"})
_KNOWN = frozenset({FILE, HARDLINK, SYMLINK, CHAR, BLOCK_DEVICE, DIRECTORY, FIFO})
_NAME_LIMIT = 64 << 10
_PAX_LIMIT = 4 << 20
_XATTR = b"SCHILY.xattr."
_NO_RECORDS: Mapping[bytes, bytes] = {}


class Member(NamedTuple):
    """One member. Its `size` bytes follow in the stream, if it is a file. `xattrs` by name.

    `owner` and `group` are the names that the archive has beside the numbers (empty: none); `records` are the pax
    records.
    """

    kind: bytes
    name: bytes
    link: bytes
    mode: int
    uid: int
    gid: int
    mtime: int
    size: int
    device: tuple[int, int]
    xattrs: tuple[tuple[bytes, bytes], ...]
    owner: bytes = b""
    group: bytes = b""
    records: Mapping[bytes, bytes] = _NO_RECORDS


def exactly(stream: io.BufferedReader, size: int) -> bytes:
    """The next `size` bytes."""
    data = stream.read(size)
    if len(data) != size:
        raise damaged("it ends early")
    return data


def skip(stream: io.BufferedReader, size: int) -> None:
    """Pass over `size` bytes."""
    while size > 0:
        size -= len(exactly(stream, min(size, 1 << 20)))


def drain(stream: io.BufferedReader) -> None:
    """Read what follows the end mark, within reason: a compressed stream's checksum comes last."""
    for _ in range(64):
        if not stream.read(1 << 20):
            return


def is_header(block: bytes) -> bool:
    """Whether this is a tar header: its checksum is right."""
    if len(block) != BLOCK or not block[0]:
        return False
    try:
        return _number(block[148:156]) == sum(block) - sum(block[148:156]) + 256
    except FetchError:
        return False


def members(stream: io.BufferedReader, *, need_end: bool = True) -> Iterator[Member]:
    """The members in their order. Before the next is asked for, a file's bytes and padding must have been read.

    `need_end`: an archive without its end mark is damaged (else a cut at a member's edge would pass unseen).
    """
    records = dict(_NO_RECORDS)
    common: dict[bytes, bytes] = {}
    while True:
        header = stream.read(BLOCK)
        if not header.strip(b"\0"):
            if len(header) != BLOCK and (need_end or header):
                raise damaged("its end mark is missing")
            return
        if not is_header(header):
            raise damaged("a member's header is wrong or cut off")
        kind = header[156:157]
        if kind in b"xgLK" and kind:
            data = _extension(stream, kind, _number(header[124:136]))
            if kind == b"g":
                common.update(parse_pax(data))
            elif kind == b"x":
                records.update(parse_pax(data))
            else:
                records[b"path" if kind == b"L" else b"linkpath"] = data.split(b"\0", 1)[0]
            continue
        yield _member(header, kind, {**common, **records} if common else records)
        records = {}


def _extension(stream: io.BufferedReader, kind: bytes, size: int) -> bytes:
    if size > (_PAX_LIMIT if kind in b"xg" else _NAME_LIMIT):
        raise FetchError("unpack.too-large", f"the archive has a header of {size} bytes")
    data = exactly(stream, size)
    exactly(stream, -size % BLOCK)
    return data


def parse_pax(data: bytes) -> dict[bytes, bytes]:
    """Records of a length, a blank, ``KEY=VALUE`` and a newline (POSIX.1-2017, pax, "pax Extended Header")."""
    records: dict[bytes, bytes] = {}
    position = 0
    while position < len(data):
        space = data.find(b" ", position, position + 20)
        digits = data[position:space] if space > 0 else b""
        if not digits.isdigit():
            raise damaged("an extended header has no length")
        end = position + int(digits)
        if end > len(data) or end <= space + 1 or data[end - 1 : end] != b"\n":
            raise damaged("an extended header has a wrong length")
        key, equals, value = data[space + 1 : end - 1].partition(b"=")
        if not equals:
            raise damaged("an extended header has no value")
        records[key] = value
        position = end
    return records


def _member(header: bytes, kind: bytes, records: Mapping[bytes, bytes]) -> Member:
    name = header[:100].split(b"\0", 1)[0]
    if header[257:263] == b"ustar\0" and header[345]:
        name = header[345:500].split(b"\0", 1)[0] + b"/" + name
    link = header[157:257].split(b"\0", 1)[0]
    mtime, size = _time(header[136:148]), _number(header[124:136])
    uid, gid = _number(header[108:116]), _number(header[116:124])
    xattrs: tuple[tuple[bytes, bytes], ...] = ()
    if records:
        name, link = records.get(b"path", name), records.get(b"linkpath", link)
        size = _decimal(records, b"size", size)
        uid, gid = _decimal(records, b"uid", uid), _decimal(records, b"gid", gid)
        mtime = _pax_time(records[b"mtime"]) if b"mtime" in records else mtime
        xattrs = tuple((key[len(_XATTR) :], value) for key, value in records.items() if key.startswith(_XATTR))
        if any(key.startswith(b"GNU.sparse.") for key in records):
            kind = b"S"
    kind = (DIRECTORY if name.endswith(b"/") else FILE) if kind in _FILES else kind
    if kind not in _KNOWN:
        what = "a sparse file" if kind == b"S" else f"a member of kind {kind!r}"
        raise FetchError(
            "unpack.unsupported",
            f"the archive has {what}: {name.decode('utf-8', 'replace')!r}",
            hint="write it without: tar without --sparse, --multi-volume and --label",
        )
    device = (_number(header[329:337]), _number(header[337:345])) if kind in (CHAR, BLOCK_DEVICE) else (0, 0)
    mode = _number(header[100:108]) & 0o7777
    owner = records.get(b"uname", header[265:297].split(b"\0", 1)[0])
    group = records.get(b"gname", header[297:329].split(b"\0", 1)[0])
    size = size if kind == FILE else 0
    return Member(kind, name, link, mode, uid, gid, mtime, size, device, xattrs, owner, group, records)


def _number(field: bytes) -> int:
    if field[0] & 0x80:
        value = int.from_bytes(field, "big", signed=False) & ~(0x80 << (8 * (len(field) - 1)))
        if field[0] == 0xFF or value >= 1 << 63:
            raise damaged("a negative number")
        return value
    try:
        return int(field.split(b"\0", 1)[0].strip() or b"0", 8)
    except ValueError as error:
        raise damaged("a number that is none") from error


def _time(field: bytes) -> int:
    """A time; one before 1970 is taken as 1970."""
    return 0 if field[0] == 0xFF else min(_number(field), (1 << 33) - 1)


def _decimal(records: Mapping[bytes, bytes], key: bytes, otherwise: int) -> int:
    text = records.get(key)
    if text is None:
        return otherwise
    if not text.isdigit() or len(text) > 19:
        raise damaged(f"{key.decode()} is no number")
    return int(text)


def _pax_time(text: bytes) -> int:
    whole = text.split(b".", 1)[0]
    if whole.startswith(b"-"):
        return 0
    if not whole.isdigit() or len(whole) > 11:
        raise damaged("a time that is none")
    return min(int(whole), (1 << 33) - 1)
