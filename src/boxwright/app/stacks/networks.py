"""The networks of stacks that run on this machine alone: bridges apart from the machine's own network."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence

from boxwright.engines.bridges import Bridge, make_bridge, plug, remove_bridge
from boxwright.engines.documents import StackDirectory
from boxwright.engines.nftrules import load_rules
from boxwright.engines.processes import ProcessMark, is_alive
from boxwright.errors import BoxwrightError
from boxwright.model.deployment import Network, NetworkSpec

_NETWORK = "network-"


class StackNetworks:
    """They are remembered among the documents of their stack."""

    def __init__(self, directory: StackDirectory) -> None:
        self._directory = directory

    def of(self, stack: str) -> Iterator[Network]:
        """Those of a stack; one whose keeper has ended is not whole."""
        for document in self._directory.names(stack):
            if document.startswith(_NETWORK):
                name = document.removeprefix(_NETWORK)
                bridge = self._bridge(stack, name)
                if bridge is not None:
                    yield Network(name, bridge.subnet, is_alive(bridge.keeper), self.are_internal(stack, [name]))

    def keeper(self, stack: str) -> ProcessMark | None:
        """A process that keeps a network of the stack now."""
        bridges = [self._bridge(stack, it.name) for it in self.of(stack) if it.whole]
        return next((it.keeper for it in bridges if it is not None), None)

    def create(self, stack: str, spec: NetworkSpec) -> None:
        """A bridge with its keeper, in place of one that is there."""
        self._remove(stack, spec.name)
        bridge = make_bridge(spec.subnet)
        fields = {"subnet": bridge.subnet, "keeper": bridge.keeper._asdict(), "internal": spec.internal}
        self._directory.write(stack, f"{_NETWORK}{spec.name}", json.dumps(fields).encode())

    def delete(self, stack: str, name: str) -> None:
        """The keeper is ended."""
        self._remove(stack, name)
        self._directory.write(stack, f"{_NETWORK}{name}", None)

    def are_internal(self, stack: str, names: Sequence[str]) -> bool:
        """Whether none of them leads out of the machine."""
        found = [self._directory.read(stack, f"{_NETWORK}{name}") for name in names]
        return all(raw is not None and bool(json.loads(raw)["internal"]) for raw in found)

    def plugging(self, stack: str, addresses: Sequence[tuple[str, str]], rules: str = "") -> Callable[[int], None]:
        """What gives the network namespace of a descriptor these addresses, by network, after its rules (nft(8)).

        It raises BoxwrightError `deploy.network` where one is gone.
        """

        def attach(namespace: int) -> None:
            if rules:
                load_rules(f"/proc/{os.getpid()}/fd/{namespace}", rules)
            for number, (network, address) in enumerate(addresses):
                bridge = self._bridge(stack, network)
                if bridge is None or not is_alive(bridge.keeper):
                    message = f"the network {network} of {stack} is gone"
                    raise BoxwrightError("deploy.network", message, hint="deploy again: it is made anew")
                plug(bridge, namespace, address, f"net{number}")

        return attach

    def _bridge(self, stack: str, name: str) -> Bridge | None:
        raw = self._directory.read(stack, f"{_NETWORK}{name}")
        if raw is None:
            return None
        fields = json.loads(raw)
        return Bridge(fields["subnet"], ProcessMark(**fields["keeper"]))

    def _remove(self, stack: str, name: str) -> None:
        bridge = self._bridge(stack, name)
        if bridge is not None:
            remove_bridge(bridge)
