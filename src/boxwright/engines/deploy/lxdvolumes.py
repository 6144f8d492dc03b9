"""Custom volumes of stacks on LXD. In a cluster a volume of a local pool is on one member."""

from __future__ import annotations

from boxwright.engines.deploy.lxdmemory import LxdHooks, LxdMemory, unless_gone
from boxwright.engines.lxdclient.client import LxdClient
from boxwright.errors import BoxwrightError
from boxwright.model.deployment import VolumeSpec


class LxdVolumes(LxdMemory):
    """The volumes of all stacks."""

    def __init__(self, client: LxdClient, hooks: LxdHooks) -> None:
        super().__init__(client, hooks)
        self._default_pool = ""

    def _volumes(self, stack: str) -> dict[str, str]:
        """All volumes, each with its member where it is on one alone."""
        found: dict[str, str] = {}
        for pool in self._pool_names():
            path = f"/storage-pools/{pool}/volumes/custom"
            for it in self._within(stack).get(path, recursion="1"):
                location = it.get("location") or "none"
                found[it["name"]] = "" if location == "none" else location
        return found

    def create_volume(self, stack: str, spec: VolumeSpec) -> None:
        """A custom volume; the pool `default` is the one of the default profile."""
        config = {"size": str(spec.size)} if spec.size else {}
        body = {"name": spec.name, "config": config, "type": "custom"}
        path = f"/storage-pools/{self._pool(spec.pool)}/volumes/custom"
        self._within(stack).run("POST", path, body, query={"target": spec.member} if spec.member else None)

    def _pool(self, name: str) -> str:
        meant = name or "default"
        if meant == "default" and self._default_pool:
            return self._default_pool
        pools = self._pool_names()
        if meant in pools:
            self._default_pool = meant if meant == "default" else self._default_pool
            return meant
        if meant != "default":
            hint = f"there is {', '.join(pools) or 'none'}; lxc storage create makes one"
            raise BoxwrightError("deploy.pool", f"there is no storage pool {name}", hint=hint)
        if not self._default_pool:
            profile = self._client.find("/profiles/default") or {}
            disks = [it for it in profile.get("devices", {}).values() if it.get("path") == "/" and it.get("pool")]
            self._default_pool = disks[0]["pool"] if disks else pools[0] if pools else ""
        if not self._default_pool:
            raise BoxwrightError("deploy.pool", "this LXD has no storage pool", hint="lxd init makes one")
        return self._default_pool

    def delete_volume(self, stack: str, name: str) -> None:
        """Remove it with its content."""
        pool = self._pool_of(stack, name)
        if pool:
            unless_gone(lambda: self._within(stack).run("DELETE", f"/storage-pools/{pool}/volumes/custom/{name}"))

    def _pool_of(self, stack: str, volume: str) -> str:
        for pool in self._pool_names():
            if self._within(stack).find(f"/storage-pools/{pool}/volumes/custom/{volume}") is not None:
                return pool
        return ""

    def _pool_names(self) -> list[str]:
        """Without their content: to count who uses each pool takes LXD long."""
        return [str(it).rpartition("/")[2] for it in self._client.get("/storage-pools")]
