"""What a recipe may do only where the user allows it: the entitlements of BuildKit."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from boxwright.errors import DefinitionError, UsageError
from boxwright.model.graph import Graph
from boxwright.model.step import Run

NETWORK_HOST = "network.host"
SECURITY_INSECURE = "security.insecure"
KNOWN = (NETWORK_HOST, SECURITY_INSECURE)


def parse_allowed(given: Collection[str]) -> frozenset[str]:
    """``--allow``, repeated or with commas. Raises UsageError."""
    found = frozenset(name for text in given for name in text.split(","))
    if unknown := sorted(found.difference(KNOWN)):
        raise UsageError("usage.allow", f"--allow {unknown[0]}: {' or '.join(KNOWN)} is expected")
    return found


def check_allowed(graph: Graph, allowed: Collection[str]) -> None:
    """Raise DefinitionError `build.not-allowed` at the first step that needs more."""
    for node in graph.nodes:
        for name in _needs(node.step) if isinstance(node.step, Run) else ():
            if name not in allowed:
                message = f"this step needs {name}, which the build does not allow"
                raise DefinitionError("build.not-allowed", message, hint=f"build with --allow {name}", where=node.span)


def _needs(run: Run) -> Iterator[str]:
    if run.network == "host" or run.network.startswith("netns:"):
        yield NETWORK_HOST
    if run.security == "insecure":
        yield SECURITY_INSECURE
