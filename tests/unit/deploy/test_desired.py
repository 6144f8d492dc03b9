"""What is to be there of a stack, and what is written from it: addresses, names, HAProxy's configuration, releases."""

from __future__ import annotations

import ipaddress
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from boxwright.deploy.addresses import choose_subnet, gateway, hosts_text, next_address
from boxwright.deploy.balancing import haproxy_text, keepalived_text
from boxwright.deploy.desired import Facts, ImageFacts, ServerFacts, desired_of
from boxwright.deploy.history import (
    MOST_EVENTS,
    MOST_RELEASES,
    StackEvent,
    add_events,
    read_events,
    read_releases,
    releases_text,
    with_release,
)
from boxwright.errors import BoxwrightError, DefinitionError
from boxwright.frontends.stack.compose import read_compose
from boxwright.frontends.stack.composemounts import ComposeWorld
from boxwright.frontends.stack.read import read_stack
from boxwright.model.deployment import Backend, Desired, InstanceSpec, desired_from_text, desired_text
from boxwright.model.image import Healthcheck, ImageConfig, Port
from boxwright.model.stack import Check, Stack
from tests.unit.deploy.memory import MemoryEngine

PLAIN = ImageConfig("amd64", cmd=("serve",), env=(("A", "image"),), exposed=(Port(80),))
SHOP = """\
name: shop
containers:
  web:
    image: web
    replicas: 3
    ports: ["8080:80"]
    links: [db, "cache:store"]
    environment: {DB_NAME: mine, B: own}
    volumes: ["data:/data"]
  db: {database: postgresql}
  cache: {image: cache, networks: [back]}
networks: {front: {subnet: 10.60.0.0/24}, back: {internal: true}}
loadbalancer:
  web: {listen: 81, algorithm: leastconn, weights: {web-2: 5}}
"""


def desired(text: str, *, replicas: dict[str, int] | None = None, **configs: ImageConfig) -> Desired:
    return desired_from(read_stack(text, "autopilot.yaml", lambda _, path: path), replicas, **configs)


def desired_from(stack: Stack, replicas: dict[str, int] | None = None, **configs: ImageConfig) -> Desired:
    names = [*(it.name for it in stack.containers), "lb", "dns"]
    images = {name: ImageFacts(f"sha256:{name}", name, configs.get(name, PLAIN)) for name in names}
    servers = {
        it.name: ServerFacts("postgresql", "/var/lib/dbase", "/database", 5432, it.name)
        for it in stack.containers
        if it.database is not None
    }
    return desired_of(stack, Facts(images, servers, {"conf": "sha256:conf"}, replicas or {}))


def one(found: Desired, logical: str) -> InstanceSpec:
    return next(it for it in found.instances if it.logical == logical)


def test_the_shop_as_it_is_to_be() -> None:
    found = desired(SHOP)
    assert [it.name for it in found.containers] == ["db", "cache", "web", "lb"]
    assert [it.logical for it in found.instances] == ["db-1", "cache-1", "web-1", "web-2", "web-3", "lb-1"]
    web = one(found, "web-2")
    env = dict(web.env)
    assert (env["DB_HOST"], env["DB_PORT"], env["DB_TYPE"], env["DB_USER"]) == ("db", "5432", "postgresql", "app")
    assert (env["STORE_HOST"], env["STORE_PORT"], env["A"], env["B"]) == ("store", "80", "image", "own")
    assert env["DB_NAME"] == "mine", "the stack's own word is the last"
    assert web.secret_env == (("DB_PASSWORD", "db"),)
    assert [mount.source for mount in web.mounts] == ["data-2"]
    assert one(found, "web-1").mounts[0].source == "data"
    assert one(found, "cache-1").aliases == ("cache", "store")
    assert [it.name for it in found.volumes] == ["data", "data-2", "data-3", "db-data"]
    assert [(it.name, it.internal) for it in found.networks] == [("back", True), ("default", False)]


def test_the_balancer_takes_over_the_ports_of_what_it_balances() -> None:
    found = desired(SHOP)
    assert one(found, "web-1").ports == ()
    balancer = one(found, "lb-1")
    assert [(it.port.host, it.port.container) for it in balancer.ports] == [(8080, 81)]
    assert balancer.networks == ("default",)
    assert [(it.container, it.listen, it.port, it.mode) for it in found.backends] == [("web", 81, 80, "http")]


def test_without_a_port_the_balancer_publishes_its_own() -> None:
    found = desired(SHOP.replace('    ports: ["8080:80"]\n', ""))
    assert [(it.port.host, it.port.container) for it in one(found, "lb-1").ports] == [(81, 81)]


def test_replicas_of_a_compose_file_share_their_volumes() -> None:
    text = "services: {web: {image: web, scale: 3, volumes: ['data:/data']}}\nvolumes: {data: }\n"
    world = ComposeWorld(lambda _, path: path, lambda _: "", {}, (), "shop", "native")
    found = desired_from(read_compose(text, "compose.yaml", world))
    assert [it.mounts[0].source for it in found.instances] == ["data", "data", "data"]
    assert [it.name for it in found.volumes] == ["data"]


def test_replicas_that_share_a_port_get_a_balancer_and_one_does_not() -> None:
    text = "name: shop\ncontainers: {web: {image: web, replicas: 2, ports: ['8080:80']}}\n"
    assert [it.logical for it in desired(text).instances] == ["web-1", "web-2", "lb-1"]
    assert [it.logical for it in desired(text, replicas={"web": 1}).instances] == ["web-1"]
    assert one(desired(text, replicas={"web": 1}), "web-1").exclusive


def test_a_check_without_a_port_asks_the_image() -> None:
    text = "name: shop\ncontainers: {web: {image: web, healthcheck: {http: /}}}\n"
    assert one(desired(text), "web-1").health.port == 80
    with pytest.raises(DefinitionError, match="no port of web"):
        desired(text, web=PLAIN._replace(exposed=()))


def test_the_image_has_a_check_a_user_and_a_command() -> None:
    text = "name: shop\ncontainers: {web: {image: web, command: [more]}}\n"
    second = 10**9
    check = Healthcheck(("CMD-SHELL", "ok"), interval=3 * second, retries=7)
    config = PLAIN._replace(entrypoint=("start",), user="app", workdir="/srv", healthcheck=check, volumes=("/own",))
    web = one(desired(text, web=config), "web-1")
    assert (web.argv, web.user, web.directory) == (("start", "more"), "app", "/srv")
    assert web.health.command == ("/bin/sh", "-c", "ok")
    assert (web.health.interval, web.health.retries) == (3.0, 7)
    assert [(it.kind, it.target) for it in web.mounts] == [("own", "/own")]
    with pytest.raises(DefinitionError, match="no command"):
        desired("name: shop\ncontainers: {web: {image: web}}\n", web=PLAIN._replace(cmd=None))


def test_what_is_to_be_there_can_be_written_and_read() -> None:
    found = desired(SHOP)
    assert desired_from_text(desired_text(found)) == found


def test_releases_and_events_are_kept_and_the_oldest_forgotten() -> None:
    engine = MemoryEngine()
    found = desired(SHOP)
    for number in range(1, MOST_RELEASES + 3):
        releases = with_release(read_releases(engine, "shop"), found, "deploy", number)
        assert releases[-1].number == number
        engine.write_document("shop", "releases", releases_text(releases))
    kept = read_releases(engine, "shop")
    assert [it.number for it in kept] == list(range(3, MOST_RELEASES + 3))
    assert kept[0].desired == found
    add_events(engine, "shop", [StackEvent(1.0, "create", str(number)) for number in range(MOST_EVENTS + 5)])
    assert next(it.name for it in read_events(engine, "shop")) == "5"
    engine.documents["events"] += b"damaged\n"
    assert len(read_events(engine, "shop")) == MOST_EVENTS
    engine.documents["releases"] = b'[{"number": 1}]'
    with pytest.raises(BoxwrightError) as caught:
        read_releases(engine, "shop")
    assert caught.value.code == "deploy.history"


# Addresses -----------------------------------------------------------------------------------------------------------

networks = st.integers(0, (1 << 14) - 1).map(lambda it: f"10.{64 + (it >> 8)}.{it & 255}.0/24")


@given(st.text(max_size=9), st.text(max_size=9), st.lists(networks, max_size=20))
def test_a_subnet_that_nobody_has_is_chosen(stack: str, network: str, taken: list[str]) -> None:
    found = ipaddress.IPv4Network(choose_subnet(stack, network, taken))
    assert not any(found.overlaps(ipaddress.IPv4Network(it)) for it in taken)
    assert str(found) == choose_subnet(stack, network, taken)


def test_addresses_come_after_the_gateway_and_run_out() -> None:
    used = {gateway("10.60.0.0/29")}
    for _ in range(5):
        used.add(next_address("10.60.0.0/29", used))
    assert sorted(used) == [f"10.60.0.{number}" for number in range(1, 7)]
    with pytest.raises(BoxwrightError) as caught:
        next_address("10.60.0.0/29", used)
    assert caught.value.code == "deploy.subnet-full"
    with pytest.raises(BoxwrightError):
        choose_subnet("a", "b", ["10.64.0.0/10"])


def test_hosts_has_each_address_once() -> None:
    text = hosts_text([("10.0.0.2", "web"), ("10.0.0.3", "web"), ("10.0.0.2", "web-1"), ("10.0.0.2", "web")])
    assert text.splitlines()[2:] == ["10.0.0.2 web web-1", "10.0.0.3 web"]


# HAProxy -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["http", "tcp"])
@pytest.mark.parametrize("algorithm", ["roundrobin", "leastconn", "source", "random", "first"])
def test_haproxy_takes_its_configuration(tmp_path: Path, mode: str, algorithm: str) -> None:
    backends = [
        Backend("web", 8080, 80, algorithm, mode, Check("http", "/healthz", 80), (("web-1", 7),)),
        Backend("empty", 8081, 80),
        Backend("apart", 8082, 80, algorithm, mode, Check("http", "/healthz", 8081)),
    ]
    places = {"web": [("web-1", "10.0.0.2"), ("web-2", "10.0.0.3")], "apart": [("apart-1", "10.0.0.4")]}
    text = haproxy_text(backends, places)
    file = tmp_path / "haproxy.cfg"
    file.write_text(text)
    said = subprocess.run(["/usr/sbin/haproxy", "-c", "-f", file], capture_output=True, text=True, check=False)
    assert said.returncode == 0, said.stderr
    assert "ALERT" not in said.stderr
    assert "web-1 10.0.0.2:80 check inter 1s fall 2 rise 1 weight 7" in text
    assert "apart-1 10.0.0.4:80 check port 8081 inter 1s" in text


def test_a_resolver_comes_first_and_everybody_asks_it() -> None:
    found = desired(f"{SHOP}resolver: true\n")
    assert found.containers[0].name == "dns"
    assert set(found.containers[0].instances[0].networks) == {"default", "back"}
    for container in found.containers[1:]:
        assert ("dns", "healthy") in container.after
        assert all(("/etc/resolv.conf", "names:") in [it[:2] for it in spec.files] for spec in container.instances)
    services = {(it.container, it.port): it.names for it in found.services or ()}
    assert services[("web", 80)] == services[("cache", 80)] == ("80", "http")
    assert services[("db", 5432)] == ("5432", "postgresql")
    assert desired_from_text(desired_text(found)) == found
    assert desired(SHOP).services is None


def test_load_balancers_that_share_an_address_publish_nothing() -> None:
    found = desired(SHOP.replace("listen: 81,", "listen: 81, address: 10.1.1.200/24, interface: eth0,"))
    spec = next(it for it in found.containers if it.name == "lb").instances
    assert [(it.number, it.ports, it.uplink) for it in spec] == [(1, (), "eth0"), (2, (), "eth0")]
    assert found.moving_address == "10.1.1.200/24"
    text = keepalived_text(found.backends, 2, ["10.64.1.2"])
    assert "        10.1.1.200/24 dev lan0\n" in text
    assert "    priority 248\n" in text
    assert "    unicast_peer {\n        10.64.1.2\n    }\n" in text
