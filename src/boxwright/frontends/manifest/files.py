"""Files and templates as Copy steps."""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Iterator

from boxwright.frontends.container.sync import modes
from boxwright.frontends.manifest.problem import wrong
from boxwright.frontends.manifest.render import Renderer
from boxwright.frontends.manifest.schema import FileTask
from boxwright.frontends.manifest.wanted import ManifestWorld
from boxwright.model.span import Span
from boxwright.model.step import ContextSource, Copy, InlineSource, MakeDirectory

SUFFIX = ".j2"


def copy_steps(
    task: FileTask, where: Span, world: ManifestWorld, names: Callable[[str, str], Renderer] | None
) -> Iterator[Copy | MakeDirectory]:
    """The steps of a file, or of a template where `names` gives what it sees.

    Raises `manifest.no-file`, `manifest.outside`, `manifest.template-directory`.
    """
    path = posixpath.normpath(posixpath.join(posixpath.dirname(where.file), task.src))
    tree = None if task.src.startswith("/") else world.tree(path)
    if tree is None:
        raise wrong("outside", f"{task.src} is not below the definition's directory", where)
    kind = world.kind(path)
    if not kind:
        raise wrong("no-file", f"there is no file {task.src}", where)
    above = posixpath.dirname(task.dest.rstrip("/"))
    if above != "/" and (task.mode or task.owner):
        yield MakeDirectory(above)  # Copy would give what it makes on its way the file's own mode and owner.
    if names is None:
        mode = modes(task.mode) if kind == "directory" else task.mode
        yield Copy((ContextSource((tree.path or "/",), tree.context),), task.dest, task.owner, mode)
        return
    if kind == "directory":
        raise wrong("template-directory", f"{task.src} is a directory: a template is a file", where)
    followed = world.tree(world.followed(path))
    if followed is None or followed.context != tree.context:
        raise wrong("outside", f"{task.src} is a link that leads out of the definition's directory", where)
    text = world.read(path, where)
    rendered = names(text, path).text(text, path)
    name = posixpath.basename(path).removesuffix(SUFFIX)
    dest = posixpath.join(task.dest, name) if task.dest.endswith("/") else task.dest
    source = InlineSource(posixpath.basename(dest), rendered)
    yield Copy((source,), dest, task.owner, task.mode or f"{world.mode(path) & 0o777:04o}")
