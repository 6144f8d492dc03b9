"""From a manifest's text to a document for each entry of its matrix: rendered, read, included files merged."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple

from boxwright.errors import DefinitionError
from boxwright.frontends.manifest.merge import merge_all
from boxwright.frontends.manifest.problem import of_manifests, wrong
from boxwright.frontends.manifest.render import Renderer, probed, used_names
from boxwright.frontends.manifest.schema import KeyValue, Manifest
from boxwright.frontends.manifest.travis import chosen, is_travis, manifest_of
from boxwright.frontends.manifest.wanted import ANY, ManifestWorld
from boxwright.frontends.package import document as doc
from boxwright.frontends.package.convert import convert, key_place
from boxwright.frontends.package.document import Place, Scalar, Sequence, parse_value, plain
from boxwright.model.span import Span

ROUNDS = 8
MOST_ENTRIES = 256
_KEYS = re.compile(r"^(?=[A-Za-z_-]+:)", re.MULTILINE)
SPECIAL = ("facts", "host", "kv", "matrix")
"""Names that no variable may have."""


class Entry(NamedTuple):
    """One of the things that a manifest builds. `choice` is what its matrix chose, empty where it has none."""

    choice: tuple[tuple[str, str], ...]
    document: doc.Mapping
    manifest: Manifest
    names: Renderer


class Loader:
    """Reads one manifest. `given` are variables of the command line, `chosen` what it says of the matrix."""

    def __init__(
        self,
        world: ManifestWorld,
        given: Mapping[str, object],
        chosen: Mapping[str, str] = MappingProxyType({}),
        note: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._world = world
        self._given = given
        self._chosen = chosen
        self._note = note

    def load(self, text: str, file: str) -> tuple[Entry, ...]:
        """The entries. Raises DefinitionError ``manifest.*`` with the place of what is wrong."""
        try:
            with of_manifests():
                first = self._guess(text, file, {})
                choices = _choices(first, self._chosen)
                return tuple(self._entry(text, file, choice) for choice in choices)
        except DefinitionError as error:
            error.where = error.where or Span(file, 1)
            raise

    def _entry(self, text: str, file: str, choice: Mapping[str, str]) -> Entry:
        names: dict[str, object] = {"matrix": dict(choice)}
        skeleton = self._guess(text, file, names)
        used = self._used(text, file, names)
        names = {**self._variables(skeleton, file), **names}
        if "host" in used:
            names["host"] = self._world.host()
        if "kv" in used:
            names["kv"] = self._data(skeleton, file)
        if "facts" in used:
            names["facts"] = self._facts(skeleton, file)
        renderer = Renderer(names, self._world.variable)
        document = self._read(text, file, renderer, ())
        manifest = convert(document, Manifest)
        if "facts" in used and _image_of(document) != _image_of(skeleton):
            raise wrong("facts-circular", "what image is built on can't depend on its facts", Span(file, 1))
        return Entry(tuple(choice.items()), document, manifest, renderer)

    def later(self, entry: Entry, text: str, file: str) -> Renderer:
        """The names for another text of the entry, with what only that text uses."""
        used = used_names(text)
        names = entry.names.names
        if "host" in used and "host" not in names:
            names["host"] = self._world.host()
        if "kv" in used and "kv" not in names:
            names["kv"] = self._data(entry.document, file)
        if "facts" in used and "facts" not in names:
            names["facts"] = self._facts(entry.document, file)
        entry.names.names = names
        return entry.names

    # What is known before the strict reading ------------------------------------------------------------------------

    def _guess(self, text: str, file: str, names: Mapping[str, object]) -> doc.Mapping:
        """The document as far as it can be read while names are missing; variables see each other."""
        known: dict[str, object] = {}
        for _ in range(ROUNDS):
            found = merge_all(self._probe(text, file, {**known, **names}, ()))
            now = self._variables(found, file)
            if now == known:
                return found
            known = now
        raise wrong("vars", "variables never settle: they need each other", Span(file, 1))

    def _probe(self, text: str, file: str, names: Mapping[str, object], chain: tuple[str, ...]) -> list[doc.Mapping]:
        """The documents, what is included first. What is wrong is left for the strict reading."""
        value = _readable(probed(text, names, self._world.variable), file)
        if is_travis(file):
            try:
                value = chosen(manifest_of(value, self._world, lambda _: None), names.get("matrix"))
            except DefinitionError:
                value = doc.Mapping({}, Place(file, 1, 1), {})
        found: list[doc.Mapping] = []
        for reference in _includes(value):
            try:
                path = self._world.included(reference.text, file, reference.place.span)
                if path not in chain and path != file:
                    found += self._probe(self._world.read(path, None), path, names, (*chain, file))
            except DefinitionError:
                continue
        return [*found, value]

    def _variables(self, document: doc.Mapping, file: str) -> dict[str, object]:
        written = document.items.get("vars")
        values = plain(written) if isinstance(written, doc.Mapping) else {}
        if isinstance(written, doc.Mapping):
            for name in SPECIAL:
                if name in written.items:
                    raise wrong("value", f"{name!r} can't be the name of a variable", written.keys[name].span)
        project = os.path.basename(os.path.dirname(os.path.abspath(file)))
        return {"project": project, **(values if isinstance(values, dict) else {}), **self._given}

    def _used(self, text: str, file: str, names: Mapping[str, object]) -> frozenset[str]:
        """The names that the manifest, what it includes, and its conditions use."""
        files = [document.place.file for document in self._probe(text, file, names, ())]
        texts = [text, *(self._world.read(path, None) for path in files if path != file)]
        used = frozenset(name for one in texts for name in used_names(one))
        conditions = frozenset(name for one in texts if "when" in one for name in SPECIAL if name in one)
        return used | conditions

    def _data(self, document: doc.Mapping, file: str) -> Mapping[str, object]:
        value = document.items.get("kv")
        if not isinstance(value, doc.Mapping):
            hint = "kv: {yaml: FILE}, {consul: http://HOST:8500} or {etcd: http://HOST:2379}"
            raise wrong("kv", "`kv` is used, but nothing says where it comes from", Span(file, 1), hint=hint)
        source = convert(value, KeyValue)
        if [bool(source.yaml), bool(source.consul), bool(source.etcd)].count(True) != 1:
            raise wrong("kv", "one of `yaml`, `consul` and `etcd` is expected here", value.place.span)
        return self._world.data(source, value.place.file, value.place.span)

    def _facts(self, document: doc.Mapping, file: str) -> Mapping[str, object]:
        image = base_image(document, self._world)
        if image is None:
            raise wrong("facts", "`facts` needs `image` or `language`", Span(file, 1))
        where = key_place(document, "image" if "image" in document.items else "language").span
        return self._world.facts(image, where)

    # The strict reading ----------------------------------------------------------------------------------------------

    def _read(self, text: str, file: str, renderer: Renderer, chain: tuple[str, ...]) -> doc.Mapping:
        rendered = renderer.manifest(text, file)
        value = parse_value(rendered.text, file, rendered.lines)
        if value is None:
            value = doc.Mapping({}, Place(file, 1, 1), {})
        if not isinstance(value, doc.Mapping):
            raise wrong("type", "a manifest is a mapping of keys to values", value.place.span)
        if is_travis(file):
            value = chosen(manifest_of(value, self._world, self._note), renderer.names.get("matrix"))
        convert(value, Manifest)  # what is wrong in an included file is said there
        below = []
        for reference in _includes(value):
            where = reference.place.span
            path = self._world.included(reference.text, file, where)
            if path in (*chain, file):
                cycle = [*(*chain, file)[(*chain, file).index(path) :], path]
                raise wrong("cycle", f"manifests include each other: {' -> '.join(cycle)}", where)
            below.append(self._read(self._world.read(path, where), path, renderer, (*chain, file)))
        return merge_all([*below, value])


def _readable(text: str, file: str) -> doc.Mapping:
    """What can be read of a text in which names are missing: all of it, or else key by key what is YAML."""
    whole = _mapping_of(text, file)
    if whole is not None:
        return whole
    items: dict[str, doc.Value] = {}
    keys: dict[str, Place] = {}
    for chunk in _KEYS.split(text):
        part = _mapping_of(chunk, file)
        if part is not None:
            items.update(part.items)
            keys.update(part.keys)
    return doc.Mapping(items, Place(file, 1, 1), keys)


def _mapping_of(text: str, file: str) -> doc.Mapping | None:
    try:
        value = parse_value(text, file)
    except DefinitionError:
        return None
    return value if isinstance(value, doc.Mapping) else None


def _includes(document: doc.Mapping) -> tuple[Scalar, ...]:
    value = document.items.get("include")
    if not isinstance(value, Sequence):
        return ()
    return tuple(item for item in value.items if isinstance(item, Scalar) and item.text)


def _image_of(document: doc.Mapping) -> object:
    return [plain(document.items[key]) for key in ("image", "language") if key in document.items]


def language_of(document: doc.Mapping) -> tuple[str, str]:
    """The language and its version, empty where none is named."""
    value = document.items.get("language")
    if isinstance(value, Scalar):
        name, _, version = value.text.partition(":")
        return name, version
    if isinstance(value, doc.Mapping):
        texts = [it.text if isinstance(it := value.items.get(key), Scalar) else "" for key in ("name", "version")]
        return texts[0], texts[1]
    return "", ""


def base_image(document: doc.Mapping, world: ManifestWorld) -> str | None:
    """The image that the manifest starts from: `image`, else what its language stands for; None without both.

    Raises `manifest.language` for a language, or a version of it, that nobody knows.
    """
    image = document.items.get("image")
    if isinstance(image, Scalar) and image.text:
        return image.text
    name, version = language_of(document)
    if not name:
        return None
    where = document.items["language"].place.span
    spec = world.language(name)
    if spec is None:
        from boxwright.frontends.package.problem import nearest

        raise wrong("language", f"there is no language {name!r}", where, hint=nearest(name, world.languages()))
    fitting = (it for it in spec.images if not version or it == ANY or f"{it}.".startswith(f"{version}."))
    found = next(fitting, None)
    if found is None:
        hint = f"one of {', '.join(spec.images)}; more with `languages:` in .boxwright-config.yaml, or name an `image`"
        raise wrong("language", f"there is no image for {name} {version}", where, hint=hint)
    return spec.images[found]


def _choices(document: doc.Mapping, chosen: Mapping[str, str]) -> list[dict[str, str]]:
    """What the matrix says: all combinations of a mapping's lists, or those of a list as they are."""
    value = document.items.get("matrix")
    if value is None:
        if chosen:
            name = next(iter(chosen))
            raise wrong("matrix", f"--matrix {name}: this manifest has no matrix", document.place.span)
        return [{}]
    matrix = convert(doc.Mapping({"matrix": value}, value.place, {"matrix": value.place}), Manifest).matrix
    if isinstance(matrix, dict):
        found = [dict(zip(matrix, one, strict=True)) for one in itertools.product(*matrix.values())]
    else:
        found = list(matrix)
    if len(found) > MOST_ENTRIES:
        raise wrong("matrix", f"the matrix has {len(found)} entries; {MOST_ENTRIES} are possible", value.place.span)
    kept = [one for one in found if all(one.get(name) == text for name, text in chosen.items())]
    if not kept:
        asked = ", ".join(f"{name}={text}" for name, text in chosen.items())
        raise wrong("matrix", f"the matrix has no entry {asked}" if found else "the matrix is empty", value.place.span)
    return kept
