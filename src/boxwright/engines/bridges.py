"""Networks of natively run stacks: a bridge in a network namespace of its own, and cables from it to containers.

The namespace is kept by a process that sleeps; it goes, and the bridge with it, when that process ends. A container has
a cable (veth(4)) to each of its stack's bridges beside the network that it has anyway, so two stacks never meet and the
machine's own network has nothing new. It works the same in a user namespace.
"""

from __future__ import annotations

import ipaddress
import json
import os
import shutil
import signal
import subprocess
from contextlib import suppress
from typing import Final, NamedTuple

from boxwright.engines import processes
from boxwright.engines.processes import ProcessMark
from boxwright.errors import MachineError

_BRIDGE: Final = "stack"
_READY: Final = b"ready\n"
_PATIENCE: Final = 10.0


class Bridge(NamedTuple):
    """A network that was made: its subnet, and the process that keeps it."""

    subnet: str
    keeper: ProcessMark

    @property
    def namespace(self) -> str:
        """Where its namespace is."""
        return f"/proc/{self.keeper.pid}/ns/net"


def _program(name: str, package: str) -> str:
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin:/usr/bin:/bin")
    if found is None:
        raise MachineError("machine.no-program", f"the program {name} is missing", hint=f"apt-get install {package}")
    return found


def make_bridge(subnet: str) -> Bridge:
    """A bridge with the subnet's first address, in a new namespace. Raises MachineError `network.bridge`."""
    network = ipaddress.IPv4Network(subnet)
    ip = _program("ip", "iproute2")
    script = (
        f"{ip} link set lo up && {ip} link add {_BRIDGE} type bridge forward_delay 0 "
        f"&& {ip} addr add {network[1]}/{network.prefixlen} dev {_BRIDGE} && {ip} link set {_BRIDGE} up "
        f"&& echo ready && exec sleep infinity >/dev/null 2>&1"
    )
    command = [_program("unshare", "util-linux"), "--net", "/bin/sh", "-c", script]
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        cwd="/",
    )
    assert process.stdout is not None  # noqa: S101  for the type checker
    assert process.stderr is not None  # noqa: S101  likewise
    said = process.stdout.readline()
    if said != _READY:
        process.kill()
        problem = process.stderr.read().decode(errors="replace").strip()
        process.wait()
        raise MachineError("network.bridge", f"a network can't be made: {problem}", hint="'boxwright doctor' may help")
    process.stdout.close()
    process.stderr.close()
    process.returncode = 0  # it stays when this process ends: nobody waits for it
    return Bridge(subnet, processes.mark(process.pid))


def plug(bridge: Bridge, namespace: int, address: str, interface: str) -> None:
    """A cable from the bridge to the namespace of this descriptor. Raises MachineError `network.cable`."""
    ip, nsenter = _program("ip", "iproute2"), _program("nsenter", "util-linux")
    place = f"/proc/{os.getpid()}/fd/{namespace}"
    end = f"v{os.urandom(6).hex()}"
    peer = f"peer name {interface} address {hardware_address(address)} netns {place}"
    outside = f"link add {end} type veth {peer}\nlink set {end} master {_BRIDGE} up\n"
    width = ipaddress.IPv4Network(bridge.subnet).prefixlen
    inside = f"addr add {address}/{width} dev {interface}\nlink set {interface} up\n"
    for target, commands in ((bridge.namespace, outside), (place, inside)):
        done = subprocess.run(
            [nsenter, f"--net={target}", ip, "-batch", "-"],
            input=commands.encode(),
            capture_output=True,
            check=False,
        )
        if done.returncode:
            problem = done.stderr.decode(errors="replace").strip()
            raise MachineError("network.cable", f"an instance can't be connected: {problem}")


def hardware_address(address: str) -> str:
    """Always the same for an address: who has it next is found at once, whatever neighbours remember (RFC 826)."""
    return "02:62:" + ":".join(f"{byte:02x}" for byte in ipaddress.IPv4Address(address).packed)


def remove_bridge(bridge: Bridge) -> None:
    """End its keeper; the namespace goes when no container is left in it."""
    with suppress(PermissionError):
        processes.send(bridge.keeper, signal.SIGKILL)
    processes.await_end(bridge.keeper, _PATIENCE)


class MachineSubnets(NamedTuple):
    """Where this machine has routes to; in which of these its interfaces are; and that of its way out."""

    routed: tuple[str, ...] = ()
    connected: tuple[str, ...] = ()
    outward: tuple[str, ...] = ()


def machine_subnets() -> MachineSubnets:
    """As ip-route(8) shows them."""
    done = subprocess.run([_program("ip", "iproute2"), "-j", "-4", "route"], capture_output=True, check=False)
    try:
        routes = json.loads(done.stdout or b"[]")
    except ValueError:
        return MachineSubnets()
    out = {it.get("dev") for it in routes if it.get("dst") == "default"}
    found = [it for it in routes if "/" in it.get("dst", "") and not it["dst"].endswith("/0")]
    near = [it for it in found if "gateway" not in it and it.get("protocol") == "kernel"]
    return MachineSubnets(
        tuple(it["dst"] for it in found),
        tuple(it["dst"] for it in near),
        tuple(it["dst"] for it in near if it.get("dev") in out),
    )
