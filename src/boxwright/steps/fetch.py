"""ADD of what lies elsewhere: a file by its content, a repository's tree by its commit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from boxwright.model.digest import Digest
from boxwright.model.giturl import without_password
from boxwright.model.image import Snapshot
from boxwright.model.step import Fetch, Step
from boxwright.ports import Fields, StepControl, StepInputs, Workspace
from boxwright.steps.expect import expect


class Remote(Protocol):
    """Reaches what lies elsewhere."""

    def identify(self, step: Fetch) -> str:
        """The digest of the file that is there now, or the name of the commit. Asked for once in a build."""
        ...

    def fetch(self, step: Fetch, identity: str, directory: str, cancelled: Callable[[], bool]) -> None:
        """Fill the empty `directory` with that very thing; raises FetchError where it is another by now."""
        ...


def fetch_fields(step: Fetch, identity: str) -> Fields:
    """The fields of a Fetch whose identity is known."""
    return (
        ("kind", step.kind),
        ("content", identity),
        ("repository", without_password(step.location) if step.keep_git_dir else None),
    )


class FetchKind:
    """Fetch steps."""

    def __init__(self, workspace: Workspace, remote: Remote) -> None:
        self._workspace = workspace
        self._remote = remote

    def fields(self, step: Step, inputs: StepInputs) -> Fields | None:
        """What it is, wherever it comes from; a kept ``.git`` says from where."""
        return fetch_fields(expect(step, Fetch), self._remote.identify(expect(step, Fetch)))

    def run(self, step: Step, key: Digest, inputs: StepInputs, control: StepControl) -> Snapshot:
        """Fetch it. Its times are what the server said; ADD sets later ones back to the build's."""
        fetch = expect(step, Fetch)
        with self._workspace.draft(None) as draft:
            self._remote.fetch(fetch, self._remote.identify(fetch), draft.upper, control.cancelled)
            return self._workspace.commit(key, None, draft, newest=None)

    def state(self, key: Digest, snapshot: Snapshot | None) -> Digest | None:
        """The key."""
        return key
