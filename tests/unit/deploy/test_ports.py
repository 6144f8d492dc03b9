"""Ports of the hosts, and volumes of replicas: what meets is an error of the plan, at its place in the text."""

from __future__ import annotations

import pytest

from boxwright.deploy.desired import Facts, ImageFacts, ServerFacts, desired_of
from boxwright.errors import DefinitionError
from boxwright.frontends.stack.compose import read_compose
from boxwright.frontends.stack.composemounts import ComposeWorld
from boxwright.frontends.stack.read import read_stack
from boxwright.model.deployment import Desired
from boxwright.model.image import ImageConfig, Port
from boxwright.model.stack import Stack

PLAIN = ImageConfig("amd64", cmd=("serve",))
PORT_80 = PLAIN._replace(published=(Port(80),))
PORT_8080 = PLAIN._replace(published=(Port(80, "tcp", 8080),))


def facts(stack: Stack, config: ImageConfig, replicas: dict[str, int], hosts: int) -> Facts:
    names = [*(it.name for it in stack.containers), "lb"]
    images = {name: ImageFacts(f"sha256:{name}", name, config if name == "web" else PLAIN) for name in names}
    servers = {it.name: ServerFacts("mysql", "/db", "/database", 1, "") for it in stack.containers if it.database}
    return Facts(images, servers, {}, replicas, hosts)


def desired(
    containers: str,
    more: str = "",
    config: ImageConfig = PLAIN,
    *,
    hosts: int = 1,
    replicas: dict[str, int] | None = None,
) -> Desired:
    stack = read_stack(f"name: shop\ncontainers:\n  {containers}\n{more}", "a.yaml", lambda _, path: path)
    return desired_of(stack, facts(stack, config, replicas or {}, hosts))


BALANCED = "loadbalancer: {web: {listen: 80, port: 80}}\n"


@pytest.mark.parametrize(
    ("containers", "more", "config", "place"),
    [
        ("web: {image: a, replicas: 2, ports: ['80:80', '443:443']}", BALANCED, PLAIN, "3:49"),
        ("web: {image: a, replicas: 2, ports: ['53:53/udp']}", "", PLAIN, "3:40"),
        ("web: {image: a, replicas: 2, ports: ['53:53', '53:53/udp']}", "", PLAIN, "3:49"),
        ("web: {image: a, replicas: 2}", "", PORT_8080, "3:3"),
        ("web: {image: a}\n  api: {image: a, ports: ['81:81', '80:80']}", BALANCED, PLAIN, "5:21"),
        ("web: {image: a}\n  api: {image: a, ports: ['8080:1']}", "", PORT_8080, "4:27"),
        ("api: {image: a, ports: ['8080:1']}\n  web: {image: a}", "", PORT_8080, "4:3"),
        ("web: {image: a, ports: ['127.0.0.1::80']}\n  api: {image: a, ports: ['80:1']}", BALANCED, PLAIN, "5:21"),
        ("web: {image: a}\n  api: {image: a, replicas: 2, ports: ['80:1']}", BALANCED, PLAIN, "5:21"),
    ],
)
def test_ports_that_meet(containers: str, more: str, config: ImageConfig, place: str) -> None:
    with pytest.raises(DefinitionError) as caught:
        desired(containers, more, config)
    assert (caught.value.code, str(caught.value.where)) == ("stack.port", f"a.yaml:{place}")


@pytest.mark.parametrize(
    ("containers", "more", "config", "published"),
    [
        ("web: {image: a, replicas: 2, ports: ['80']}", BALANCED, PLAIN, [("lb-1", "", 80, 80)]),
        ("web: {image: a, replicas: 2}", BALANCED, PORT_80, [("lb-1", "", 80, 80)]),
        ("web: {image: a, ports: ['127.0.0.1::80']}", BALANCED, PLAIN, [("lb-1", "127.0.0.1", 80, 80)]),
        ("web: {image: a, ports: ['81:80', '80']}", BALANCED, PLAIN, [("lb-1", "", 81, 80)]),
        ("web: {image: a, ports: ['53:53', '53:53/udp']}", "", PLAIN, [("web-1", "", 53, 53)] * 2),
        (
            "web: {image: a, ports: ['80:80', '80:80/udp']}",
            BALANCED,
            PLAIN,
            [("web-1", "", 80, 80), ("lb-1", "", 80, 80)],
        ),
        ("web: {image: a, replicas: 2, ports: ['8080']}", "", PLAIN, [("web-1", "", 0, 8080), ("web-2", "", 0, 8080)]),
        (
            "web: {image: a, replicas: 2, ports: ['1:80', '2:80', '3:81']}",
            "",
            PLAIN,
            [("lb-1", "", 1, 80), ("lb-1", "", 2, 80), ("lb-1", "", 3, 81)],
        ),
        (
            "web: {image: a, ports: ['127.0.0.1:80:80']}\n  api: {image: a, ports: ['10.1.1.1:80:80', '80:80/udp']}",
            "",
            PLAIN,
            [("web-1", "127.0.0.1", 80, 80), ("api-1", "10.1.1.1", 80, 80), ("api-1", "", 80, 80)],
        ),
    ],
)
def test_ports_that_do_not_meet(
    containers: str, more: str, config: ImageConfig, published: list[tuple[str, str, int, int]]
) -> None:
    found = desired(containers, more, config)
    ports = [(it.logical, p.address, p.port.host, p.port.container) for it in found.instances for p in it.ports]
    assert sorted(ports) == sorted(published)


def test_each_host_has_its_ports() -> None:
    text = "web: {image: a, replicas: 3, ports: ['53:53/udp']}"
    assert len(desired(text, hosts=3).instances) == 3
    for placed in (text, text.replace("replicas: 3", "replicas: 2, placement: {on: [n1]}")):
        with pytest.raises(DefinitionError, match="replicas of web"):
            desired(placed, hosts=2)
    assert not desired(text, replicas={"web": 0}).instances
    with pytest.raises(DefinitionError, match="2 replicas of web"):
        desired(text.replace("replicas: 3, ", ""), replicas={"web": 2})


def test_the_place_in_a_compose_file_whose_service_is_called_otherwise() -> None:
    text = (
        "services:\n  my_web:\n    image: a\n    restart: always\n    deploy: {replicas: 2}\n"
        "    ports:\n      - '80-81'\n      - '53:53/udp'\n"
    )
    world = ComposeWorld(lambda _, path: path, str, {}, (), "shop", "native")
    stack = read_compose(text, "c.yaml", world)
    with pytest.raises(DefinitionError) as caught:
        desired_of(stack, facts(stack, PLAIN, {}, 1))
    assert str(caught.value.where) == "c.yaml:8:9"


@pytest.mark.parametrize(
    ("containers", "place"),
    [
        ("web: {image: a, replicas: 2, volume: 'data:/d'}\n  db: {image: a, volume: 'data-2:/d'}", "4:3"),
        ("db: {image: a, volume: 'data-3:/d'}\n  web: {image: a, replicas: 3, volume: 'data:/d'}", "3:3"),
        ("web: {image: a, replicas: 2, volumes: ['data:/a', 'data-2:/b']}", "3:3"),
        ("web: {image: a, replicas: 2, volume: 'db:/d'}\n  db: {database: mysql, volume: db-2}", "4:3"),
    ],
)
def test_volumes_of_replicas_are_nobody_elses(containers: str, place: str) -> None:
    with pytest.raises(DefinitionError) as caught:
        desired(containers)
    assert (caught.value.code, str(caught.value.where)) == ("stack.volume", f"a.yaml:{place}")


def test_volumes_that_are_shared_on_purpose() -> None:
    both = "web: {image: a, replicas: 2, volume: 'data:/d'}\n  db: {image: a, replicas: 2, volume: 'data:/d'}"
    assert [it.name for it in desired(both).volumes] == ["data", "data-2"]
    read = "web: {image: a, replicas: 2, volume: 'data:/d'}\n  saver: {image: a, volumes: ['data-2:/d:ro']}"
    assert [it.name for it in desired(read).volumes] == ["data", "data-2"]


def test_a_volume_has_what_is_declared_of_it_and_a_replicas_what_its_first_one_has() -> None:
    declared = "volumes: {db: {size: 5GiB, replicate: 2}, data: {size: 1GiB}, data-3: {size: 2GiB}}\n"
    text = (
        "web: {image: a, replicas: 3, volume: 'data:/d'}\n  db: {image: a, volumes: ['db-data:/d', 'db-2:/e', 'db:/f']}"
    )
    sizes = {it.name: (it.size >> 30, it.replicate) for it in desired(text, declared).volumes}
    assert sizes == {
        "data": (1, 1),
        "data-2": (1, 1),
        "data-3": (2, 1),
        "db": (5, 2),
        "db-data": (0, 1),
        "db-2": (0, 1),
    }
