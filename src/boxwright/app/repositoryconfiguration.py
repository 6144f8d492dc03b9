"""The entries of `repositories:` that are binary hosts, and what they mean."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal, NamedTuple

import msgspec

from boxwright.app.configuration import configuration_files
from boxwright.app.configurationfile import RepositoryNode, repository_nodes
from boxwright.errors import BoxwrightError, DefinitionError, UsageError
from boxwright.repositories.binary.keys import PublicKey, parse_key

Kind = Literal["directory", "ssh", "https", "http", "s3", "oci"]
OTHERS = frozenset({"reapi"})
"""Types of repositories that are no places of objects."""
OWN_KEY = "boxwright/signing-key.pem"


class BinarySpec(msgspec.Struct, forbid_unknown_fields=True, frozen=True, rename="kebab"):
    """A binary host: one `type` with `path`, or one way up and one down."""

    name: str
    type: Kind | None = None
    path: str = ""
    upload_type: Kind | None = None
    upload_path: str = ""
    download_type: Kind | None = None
    download_path: str = ""
    keys: tuple[str, ...] = ()
    revoked: tuple[str, ...] = ()
    signing_key: str = ""
    endpoint: str = ""
    region: str = ""
    insecure: bool = False
    ca: str = ""
    time_limit: Annotated[float, msgspec.Meta(gt=0)] = 30.0


class Way(NamedTuple):
    """How objects go up or come down."""

    kind: str
    path: str


class Binary(NamedTuple):
    """A binary repository as it is configured. `upload` is None where it can only be read."""

    name: str
    download: Way
    upload: Way | None
    keys: tuple[PublicKey, ...]
    revoked: frozenset[str]
    signing_key: str
    endpoint: str
    region: str
    insecure: bool
    time_limit: float
    authority: str = ""


def own_key_path(environment: Mapping[str, str]) -> str:
    """Where the user's own key lies: made at the first push, always trusted by that user."""
    home = environment.get("XDG_CONFIG_HOME") or os.path.join(environment.get("HOME", "/"), ".config")
    return os.path.join(home, OWN_KEY)


def binaries_for(directory: str, environment: Mapping[str, str], more: Sequence[str] = ()) -> list[Binary]:
    """The binary repositories of a build in `directory`, in the order in which they are asked.

    `more` are further files of configuration, which come first.
    """
    return binaries_of((*more, *configuration_files(directory, environment.get("HOME", ""))), environment)


def binaries_of(files: Sequence[str], environment: Mapping[str, str], foreign: Sequence[str] = ()) -> list[Binary]:
    """The binary repositories that these files name; of two with one name the first counts.

    `foreign` are those of the files that somebody else wrote: which key of this user signs is not theirs to say.
    """
    if not files:
        return []
    found: dict[str, Binary] = {}
    for node in repository_nodes(files):
        if node.kind not in OTHERS:
            binary = _binary(node, environment)
            if node.path in foreign:
                binary = binary._replace(signing_key=own_key_path(environment))
            found.setdefault(binary.name, binary)
    return list(found.values())


def chosen(binaries: Sequence[Binary], names: Sequence[str]) -> list[Binary]:
    """Those that are named, all where none is. Raises UsageError `repository.unknown`."""
    if not names:
        return list(binaries)
    known = {it.name: it for it in binaries}
    for name in names:
        if name not in known:
            hint = f"configured are {', '.join(known)}" if known else "no repository is configured"
            raise UsageError("repository.unknown", f"there is no repository {name!r}", hint=hint)
    return [known[name] for name in names]


def _binary(node: RepositoryNode, environment: Mapping[str, str]) -> Binary:
    spec = node.convert(BinarySpec)
    directory = os.path.dirname(node.path)
    try:
        keys = tuple(_keys(spec.keys, directory))
    except BoxwrightError as error:
        error.where = error.where or node.where
        raise
    return Binary(
        spec.name,
        _down(spec, node, directory),
        _up(spec, directory),
        keys,
        frozenset(spec.revoked),
        _path(spec.signing_key, directory) if spec.signing_key else own_key_path(environment),
        spec.endpoint,
        spec.region,
        spec.insecure,
        spec.time_limit,
        _path(spec.ca, directory) if spec.ca else "",
    )


def _keys(texts: Sequence[str], directory: str) -> list[PublicKey]:
    """Public keys: written out, or each line of a file."""
    found: list[PublicKey] = []
    for text in texts:
        if text.startswith("ed25519:"):
            found.append(parse_key(text))
            continue
        path = _path(text, directory)
        try:
            with open(path, encoding="utf-8") as file:
                lines = [line.strip() for line in file]
        except OSError as error:
            hint = "ed25519:BASE64, or a file with such lines"
            raise DefinitionError("config.key", f"{path} can't be read: {error.strerror}", hint=hint) from error
        found += [parse_key(line) for line in lines if line and not line.startswith("#")]
    return found


def _down(spec: BinarySpec, node: RepositoryNode, directory: str) -> Way:
    kind = spec.download_type or spec.type or spec.upload_type
    path = spec.download_path or spec.path or (spec.upload_path if kind == spec.upload_type else "")
    if kind is None or not path:
        hint = "give type and path, or download-type and download-path"
        raise DefinitionError("config.repository", f"{spec.name}: where is it read?", hint=hint, where=node.where)
    return Way(kind, _path(path, directory) if kind == "directory" else path)


def _up(spec: BinarySpec, directory: str) -> Way | None:
    kind = spec.upload_type or spec.type
    path = spec.upload_path or spec.path
    if kind in (None, "https", "http") or not path:
        return None
    return Way(str(kind), _path(path, directory) if kind == "directory" else path)


def _path(path: str, directory: str) -> str:
    return os.path.normpath(os.path.join(directory, os.path.expanduser(path)))
