"""A sync task as Copy steps: one for files as they are, one for each file that is a template."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator

from boxwright.frontends.container.problem import wrong
from boxwright.frontends.container.schema import SyncTask
from boxwright.frontends.container.tasks import Placed
from boxwright.frontends.container.wanted import ContainerFiles, LocalFile
from boxwright.frontends.package.convert import place_of
from boxwright.model.glob import glob_to_regex
from boxwright.model.step import ContextSource, Copy, InlineSource, MakeDirectory

SUFFIX = ".j2"
PLAIN_MODES = (0o644, 0o755)
"""Files of these modes: what Copy makes on its way to them has 0755."""


def sync_steps(content: SyncTask, task: Placed, files: ContainerFiles) -> Iterator[Copy | MakeDirectory]:
    """The steps. Raises `container.no-file` and `container.not-recursive`."""
    where = place_of(task.value, "src").span
    source = posixpath.normpath(content.src)
    if source.startswith(("/", "../")) or source == "..":
        raise wrong("outside", f"{content.src} is not below the definition's directory", where)
    kind = files.kind(source)
    if not kind:
        raise wrong("no-file", f"there is no file {content.src}", where)
    if kind == "directory" and not content.recursive:
        hint = "add `recursive: true`"
        raise wrong("not-recursive", f"{content.src} is a directory", where, hint=hint)
    above = posixpath.dirname(content.dest.rstrip("/"))
    if above != "/" and (content.chmod or content.chown):
        yield MakeDirectory(above)  # Copy would give what it makes on its way the file's own mode and owner.
    mode = modes(content.chmod) if kind == "directory" else content.chmod
    if content.templates is False:
        yield Copy((ContextSource((source,)),), content.dest, content.chown, mode)
        return
    if not files.is_inside(source):
        raise wrong("outside", f"{content.src} leads out of the definition's directory", where)
    made = {"/"}
    for file in files.files(source):
        copy = _file(file, source, kind, content, task)
        above = posixpath.dirname(copy.destination.rstrip("/"))
        if kind == "directory" and not content.chmod and file.mode not in PLAIN_MODES and above not in made:
            made.add(above)
            yield MakeDirectory(above, content.chown)
        yield copy


def _file(file: LocalFile, source: str, kind: str, content: SyncTask, task: Placed) -> Copy:
    path = posixpath.join(source, file.path) if file.path else source
    name = posixpath.basename(path)
    mode = modes(content.chmod or f"{file.mode:04o}")
    is_template = file.text is not None and _matches(content.templates, file.path or name)
    dest = content.dest
    if kind == "directory":
        dest = posixpath.join(dest, file.path)
    elif dest.endswith("/"):
        dest = posixpath.join(dest, name)
    if not is_template or file.text is None:
        return Copy((ContextSource((path,)),), dest, content.chown, mode)
    if dest.endswith(SUFFIX):
        dest = dest.removesuffix(SUFFIX)
    text = task.variables.text(file.text, posixpath.join(posixpath.dirname(task.where.file), path))
    return Copy((InlineSource(posixpath.basename(dest), text),), dest, content.chown, mode)


def _matches(templates: bool | tuple[str, ...], path: str) -> bool:  # noqa: FBT001 - what the schema has
    if isinstance(templates, bool):
        return templates
    return any(
        re.fullmatch(glob_to_regex(glob), text) for glob in templates for text in (path, path.rpartition("/")[2])
    )


def modes(chmod: str) -> str:
    """The mode for a tree, as chmod(1) writes it: files get just it; who may read a directory may also enter it."""
    if not chmod:
        return ""
    mode = int(chmod, 8)
    classes = [(who, mode >> shift & 7) for who, shift in (("u", 6), ("g", 3), ("o", 0))]
    readers = "".join(who for who, bits in classes if bits & 4)
    given = [
        (who, "".join(letter for letter, bit in (("r", 4), ("w", 2), ("x", 1)) if bits & bit)) for who, bits in classes
    ]
    special = [word for word, bit in (("u+s", 0o4000), ("g+s", 0o2000), ("o+t", 0o1000)) if mode & bit]
    # X is for directories alone here: a file has lost its own permission to be run before.
    words = [f"{readers}+X"] if readers else []
    return ",".join(["a=", *words, *(f"{who}+{letters}" for who, letters in given if letters), *special])
