"""Modules: reusable pieces of manifests with typed parameters."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from boxwright.frontends.manifest.load import SPECIAL, Entry, Loader
from boxwright.frontends.manifest.problem import wrong
from boxwright.frontends.manifest.render import Renderer, probed
from boxwright.frontends.manifest.schema import Module, ModuleUse, Parameter
from boxwright.frontends.manifest.wanted import ManifestWorld
from boxwright.frontends.package import document as doc
from boxwright.frontends.package.convert import BOOLEANS, convert
from boxwright.frontends.package.document import parse_document
from boxwright.frontends.package.problem import nearest
from boxwright.model.span import Span

FILE = "module.yaml"


class Used(NamedTuple):
    """A module as a manifest uses it, with the names that its templates see."""

    module: Module
    document: doc.Mapping
    names: Renderer
    file: str


def read_module(use: ModuleUse, near: str, where: Span, loader: Loader, entry: Entry, world: ManifestWorld) -> Used:
    """A module that a manifest, or another module, uses. Raises ``module.*`` and ``manifest.*``."""
    found = world.module(use.name, use.version, use.from_, near, where)
    text = world.read(found.file, where)
    names = loader.later(entry, text, found.file).names
    outer: dict[str, object] = {name: names[name] for name in SPECIAL if name in names}
    outer["module"] = {"name": use.name, "version": found.version}
    parameters = parameters_of(text, found.file)
    renderer = Renderer({**outer, **values_of(parameters, use, where)}, world.variable)
    rendered = renderer.manifest(text, found.file)
    document = parse_document_lines(rendered.text, found.file, rendered.lines)
    return Used(convert(document, Module), document, renderer, found.file)


def parse_document_lines(text: str, file: str, lines: tuple[int, ...]) -> doc.Mapping:
    """A rendered module."""
    value = doc.parse_value(text, file, lines)
    if not isinstance(value, doc.Mapping):
        raise wrong("type", "a module is a mapping of keys to values", Span(file, 1))
    return value


def parameters_of(text: str, file: str) -> dict[str, Parameter]:
    """The parameters that a module declares. They are no template: nothing is known when they are read."""
    value = parse_document(probed(text, {}, lambda _: None), file).items.get("parameters")
    if value is None:
        return {}
    only = doc.Mapping({"parameters": value}, value.place, {"parameters": value.place})
    minimal = {"name": "x", "version": "1", "summary": "x"}
    items: dict[str, doc.Value] = {key: doc.Scalar(text, value.place) for key, text in minimal.items()}
    return convert(doc.Mapping({**items, **only.items}, value.place, only.keys), Module).parameters


def values_of(parameters: Mapping[str, Parameter], use: ModuleUse, where: Span) -> dict[str, object]:
    """What a module's parameters are. Raises `module.parameter` at the place of its use."""
    for name in use.vars:
        if name not in parameters:
            hint = nearest(name, parameters)
            raise wrong("parameter", f"the module {use.name} has no parameter {name!r}", where, hint=hint)
    values: dict[str, object] = {}
    for name, parameter in parameters.items():
        given = use.vars.get(name, parameter.default)
        if given is None:
            if name in use.vars or parameter.default is None:
                message = f"the module {use.name} needs {name!r} ({parameter.summary})"
                raise wrong("parameter", message, where, hint=f"vars: {{{name}: ...}}")
        else:
            values[name] = _value(name, parameter, given, use.name, where)
    return values


def _value(name: str, parameter: Parameter, given: object, module: str, where: Span) -> object:
    def refuse(expected: str) -> Exception:
        return wrong("parameter", f"{name} of the module {module} is {given!r}: {expected} is expected", where)

    if parameter.type in ("list", "mapping"):
        if not isinstance(given, list if parameter.type == "list" else dict):
            raise refuse(f"a {parameter.type}")
        return given
    if not isinstance(given, str):
        raise refuse("text")
    if parameter.type == "int":
        if not re.fullmatch(r"-?[0-9]{1,18}", given):
            raise refuse("a whole number")
        number = int(given)
        low, high = parameter.minimum, parameter.maximum
        if (low is not None and number < low) or (high is not None and number > high):
            raise refuse(f"a number from {low} to {high}")
        return number
    if parameter.type == "bool":
        if given.lower() not in BOOLEANS:
            raise refuse("true or false")
        return BOOLEANS[given.lower()]
    if parameter.type == "choice" and given not in parameter.values:
        raise refuse(f"one of {', '.join(parameter.values)}")
    if parameter.pattern and not re.fullmatch(parameter.pattern, given):
        raise refuse(f"text like {parameter.pattern}")
    return given
