"""The contexts and the definition of a build."""

from __future__ import annotations

import os
from collections.abc import Mapping

from boxwright.app.contexts import LocalContexts
from boxwright.app.definitions import find_definition, read_definition
from boxwright.app.givens import KEEP_GIT_DIR, Given, Named
from boxwright.app.request import BuildRequest
from boxwright.model.graph import Graph
from boxwright.model.step import ContextSource, Copy, Run
from boxwright.store.store import Store


def given_definition(request: BuildRequest, store: Store) -> tuple[Given, str, str]:
    """The main context, the definition's file and its text."""
    if os.path.isdir(request.directory):
        given = Given(request.directory)
    else:
        from boxwright.app.given import open_context

        keep = request.build_args.get(KEEP_GIT_DIR) in ("1", "true")
        given = open_context(request.directory, store, request.stdin, keep_git_dir=keep)
    if request.text is not None:
        return given, "-", request.text
    if not given.fetched:
        file = find_definition(given.directory, request.file)
        return given, file, read_definition(file)
    from boxwright.app.given import definition_of

    return given, *definition_of(given, request.file)


def named_trees(request: BuildRequest) -> Named:
    """What ``--build-context`` gives."""
    if not request.contexts:
        return Named()
    from boxwright.app.given import named_contexts

    return named_contexts(request.contexts)


def build_contexts(
    given: Given, trees: Mapping[str, str], file: str, graph: Graph, store: Store, epoch: int
) -> LocalContexts:
    """The contexts, of which those that must be fetched are fetched where the graph takes something from them."""
    directories = {"": given.directory}
    fetched = {""} if given.fetched else set()
    for name, word in trees.items():
        directories[name] = word
        if not os.path.isdir(word) and name in used_contexts(graph):
            from boxwright.app.given import open_named

            tree = open_named(word, name, store)
            directories[name] = tree.directory
            fetched |= {name} if tree.fetched else set()
    return LocalContexts(store, directories, file, epoch, fetched)


def used_contexts(graph: Graph) -> frozenset[str]:
    """The named contexts that steps of a graph take something from."""
    copied = (
        source.context
        for node in graph.nodes
        if isinstance(node.step, Copy)
        for source in node.step.sources
        if isinstance(source, ContextSource)
    )
    mounted = (
        dict(mount.options).get("context", "")
        for node in graph.nodes
        if isinstance(node.step, Run)
        for mount in node.step.mounts
    )
    return frozenset((*copied, *mounted)) - {""}
