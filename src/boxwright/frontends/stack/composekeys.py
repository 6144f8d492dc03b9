"""Which keys a Compose file may have at each place, and which of them are carried over (Compose specification)."""

from __future__ import annotations

from typing import Final, NamedTuple


class Keys(NamedTuple):
    """Keys of one mapping: those that are read, and those that Compose knows beside them."""

    read: frozenset[str]
    left_out: frozenset[str] = frozenset()


def _keys(read: str, left_out: str = "") -> Keys:
    return Keys(frozenset(read.split()), frozenset(left_out.split()))


TOP: Final = _keys("version name services networks volumes secrets configs", "include models")
SERVICE: Final = _keys(
    """build command configs depends_on deploy entrypoint env_file environment expose healthcheck image links
    network_mode networks ports profiles restart scale secrets stop_grace_period user volumes working_dir""",
    """annotations attach blkio_config cap_add cap_drop cgroup cgroup_parent container_name cpu_count cpu_percent
    cpu_period cpu_quota cpu_rt_period cpu_rt_runtime cpu_shares cpus cpuset credential_spec develop
    device_cgroup_rules devices dns dns_opt dns_search domainname extends external_links extra_hosts gpus group_add
    hostname init ipc isolation label_file labels logging mac_address mem_limit mem_reservation mem_swappiness
    memswap_limit models oom_kill_disable oom_score_adj pid pids_limit platform post_start pre_stop privileged provider
    pull_policy pull_refresh_after read_only runtime security_opt shm_size stdin_open stop_signal storage_opt sysctls
    tmpfs tty ulimits use_api_socket userns_mode uts volumes_from""",
)
BUILD: Final = _keys(
    "context dockerfile dockerfile_inline args target",
    """additional_contexts cache_from cache_to entitlements extra_hosts isolation labels network no_cache
    no_cache_filter platforms privileged provenance pull sbom secrets shm_size ssh tags ulimits""",
)
DEPLOY: Final = _keys(
    "replicas update_config mode restart_policy", "endpoint_mode labels placement resources rollback_config"
)
UPDATE: Final = _keys("parallelism delay order failure_action", "max_failure_ratio monitor")
RESTART_POLICY: Final = _keys("condition", "delay max_attempts window")
HEALTHCHECK: Final = _keys("test interval timeout retries start_period disable", "start_interval")
DEPENDENCY: Final = _keys("condition required", "restart")
ENV_FILE: Final = _keys("path required format")
PORT: Final = _keys("target published host_ip protocol mode", "app_protocol name")
MOUNT: Final = _keys("type source target read_only bind volume tmpfs image consistency")
MOUNT_PARTS: Final = {
    "bind": _keys("create_host_path", "propagation recursive selinux"),
    "volume": _keys("", "labels nocopy subpath"),
    "tmpfs": _keys("size mode"),
    "image": _keys("subpath"),
}
"""What is left out of a mount that is left out itself isn't named once more."""
SECRET_USE: Final = _keys("source target", "uid gid mode")
CONFIG_USE: Final = _keys("source target mode", "uid gid")
SERVICE_NETWORK: Final = _keys(
    "aliases", "driver_opts gw_priority interface_name ipv4_address ipv6_address link_local_ips mac_address priority"
)
NETWORK: Final = _keys("internal ipam name", "attachable driver driver_opts enable_ipv4 enable_ipv6 external labels")
IPAM: Final = _keys("config", "driver options")
SUBNET: Final = _keys("subnet", "aux_addresses gateway ip_range")
VOLUME: Final = _keys("name", "driver driver_opts external labels")
SECRET: Final = _keys("file environment name", "driver driver_opts external labels template_driver")
CONFIG: Final = _keys("file name", "content environment external labels template_driver")
