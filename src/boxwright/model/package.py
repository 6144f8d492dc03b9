"""Packages as they are recorded."""

from __future__ import annotations

from typing import Any, NamedTuple

from boxwright.model.digest import Digest


class PackageRecord(NamedTuple):
    """A built package. `key` is its content key, `definition` its definition key, `archive` its tar's digest.

    `record` is its metadata (docs/packages.md, "Metadata").
    """

    key: Digest
    definition: Digest
    name: str
    archive: Digest
    record: dict[str, Any]
