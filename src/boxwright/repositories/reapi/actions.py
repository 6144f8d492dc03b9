"""A package build as an Action: its command, its input tree, and the digests by which a server knows them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from boxwright.ports import ActionSpec
from boxwright.repositories.reapi import messages
from boxwright.repositories.reapi.settings import Blob, Settings
from boxwright.repositories.reapi.trees import InputTrees, Node, Place, blob_of, digest_message, directory_node

WORK = "build"
"""The directory of the input tree that `ActionSpec.work` is."""


class RemoteAction(NamedTuple):
    """An action that can be handed over. `output` is the path of its one output below the working directory."""

    blob: Blob
    data: bytes
    command: Blob
    command_data: bytes
    root: Node
    output: str


def make_action(spec: ActionSpec, settings: Settings, trees: InputTrees) -> RemoteAction:
    """The action of a build. Equal builds give equal digests, on every machine."""
    prefix = f"/{WORK}/"
    files = {target.removeprefix(prefix): source for source, target in spec.read_only}
    work = directory_node(spec.work, files, writable=settings.read_only)
    root = trees.merged(spec.snapshots, {WORK: work}, read_only=settings.read_only)
    platform = _platform(settings)
    command = messages.Command(
        arguments=spec.argv,
        output_paths=[spec.output],
        working_directory=spec.cwd.lstrip("/"),
        platform=platform,
    )
    for name, value in sorted(spec.env):
        command.environment_variables.add(name=name, value=value)
    command_data = command.SerializeToString(deterministic=True)
    action = messages.Action(
        command_digest=digest_message(blob_of(command_data)),
        input_root_digest=digest_message(root.blob),
        platform=platform,
    )
    data = action.SerializeToString(deterministic=True)
    return RemoteAction(blob_of(data), data, blob_of(command_data), command_data, root, spec.output)


def _platform(settings: Settings) -> Any:  # noqa: ANN401 - a message
    platform = messages.Command().platform
    for name, value in sorted(settings.properties):
        platform.properties.add(name=name, value=value)
    return platform


class InputBlobs:
    """Everything that a server needs for actions, but what is known to be there."""

    def __init__(self, trees: InputTrees) -> None:
        self._trees = trees
        self._complete: set[Blob] = set()

    def of(self, action: RemoteAction) -> tuple[dict[Blob, bytes | Place], list[Blob]]:
        """The blobs of an action with where their bytes are, and the directories among them."""
        blobs: dict[Blob, bytes | Place] = {action.blob: action.data, action.command: action.command_data}
        directories: dict[Blob, None] = {}
        pending = [action.root]
        while pending:
            node = pending.pop()
            if node.blob in self._complete or node.blob in directories:
                continue
            directories[node.blob] = None
            blobs[node.blob] = node.data
            blobs.update(node.files)
            pending += node.children
        return blobs, list(directories)

    def complete(self, directories: Sequence[Blob]) -> None:
        """These are there, with all that is in them."""
        self._complete.update(directories)

    def forget(self) -> None:
        """Believe nothing."""
        self._complete = set()

    def bytes_of(self, source: bytes | Place) -> bytes | str:
        """The bytes, or the file that holds them."""
        return source if isinstance(source, bytes) else self._trees.source(source)


def output_of(result: Any, output: str) -> Blob | None:  # noqa: ANN401 - a message
    """The digest of the output file that a result names; None where it names none."""
    for file in result.output_files:
        if file.path == output:
            return Blob(file.digest.hash, file.digest.size_bytes)
    return None
