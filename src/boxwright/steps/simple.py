"""The empty tree, and WORKDIR's directory."""

from __future__ import annotations

from boxwright.errors import BoxwrightError, DefinitionError
from boxwright.model.change import Change, Difference, with_change
from boxwright.model.digest import Digest
from boxwright.model.image import Snapshot
from boxwright.model.step import MakeDirectory, Scratch, Step
from boxwright.model.tree import DIRECTORY, EMPTY, directory_entry
from boxwright.ports import Fields, StepControl, StepInputs, Workspace
from boxwright.steps.expect import expect, parent_of
from boxwright.steps.place import place_directories


class ScratchKind:
    """FROM scratch."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace

    def fields(self, step: Step, inputs: StepInputs) -> Fields | None:
        """There is one empty tree."""
        expect(step, Scratch)
        return ()

    def run(self, step: Step, key: Digest, inputs: StepInputs, control: StepControl) -> Snapshot:
        """Record the empty tree."""
        with self._workspace.draft(None) as draft:
            return self._workspace.commit(key, None, draft, newest=0, difference=Difference({}))

    def state(self, key: Digest, snapshot: Snapshot | None) -> Digest | None:
        """The key."""
        return key


class MakeDirectoryKind:
    """WORKDIR: a directory, its parents where they are missing, nothing where it is there."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace

    def fields(self, step: Step, inputs: StepInputs) -> Fields | None:
        """The state, the path, and the owner where one is named."""
        if inputs.states[0] is None:
            return None
        path, owner = expect(step, MakeDirectory)
        fields = (("state", inputs.states[0]), ("path", path))
        return (*fields, ("owner", owner)) if owner else fields

    def run(self, step: Step, key: Digest, inputs: StepInputs, control: StepControl) -> Snapshot:
        """Make what is missing."""
        parent = parent_of(inputs)
        path, owner = expect(step, MakeDirectory)
        located = self._workspace.locate(parent.manifest, path)
        if located.entry is not None:
            if located.entry.kind != DIRECTORY:
                raise BoxwrightError("step.not-a-directory", f"/{located.path} is there and not a directory")
            return self._workspace.alias(key, parent)
        name = located.path.rpartition("/")[2]
        made = directory_entry(name, 0o755, control.epoch, EMPTY.link, owner=self._owner(owner, parent))
        changes = with_change({}, located.path, Change(made, {}))
        with self._workspace.draft(parent) as draft:
            changes = place_directories(self._workspace, parent, draft.upper, changes, made)
            difference = Difference(changes)
            return self._workspace.commit(key, parent, draft, newest=control.newest, difference=difference)

    def _owner(self, name: str, parent: Snapshot) -> tuple[int, int]:
        """The user's numbers; root's where the tree doesn't know that user, who can run nothing anyway."""
        if not name:
            return 0, 0
        from boxwright.steps.owners import parse_owner

        try:
            return parse_owner(name, self._workspace, parent)
        except DefinitionError:
            return 0, 0

    def state(self, key: Digest, snapshot: Snapshot | None) -> Digest | None:
        """The key."""
        return key
