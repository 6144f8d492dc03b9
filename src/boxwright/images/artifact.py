"""What a writer gives back."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from boxwright.model.digest import Digest


@dataclass(frozen=True, slots=True)
class WrittenArtifact:
    """An output, and the bytes that were written.

    `digest`: of the manifest for OCI; of the configuration for docker-archive; of the file for a file; of the root file
    system's archive for lxc; the image's identity for a plain directory. `config`: of the OCI configuration in it.
    """

    kind: str
    path: Path
    digest: Digest
    size: int
    config: Digest | None = None
