"""Other numbers of replicas: what else was deployed stays as it was, whatever became of the definition."""

from __future__ import annotations

import json

import pytest

from boxwright.app.stacks.contents import StackContents
from boxwright.app.stacks.deployment import carry_out, prepare_deployment
from boxwright.app.stacks.images import BALANCER_TAG
from boxwright.app.stacks.scaling import check_replicas, lacks_balancer, released_basis, scaled_stack
from boxwright.deploy.applying import DEPLOYING
from boxwright.deploy.basis import Basis, basis_from_text, basis_text, scaled
from boxwright.deploy.desired import Facts, ImageFacts, ServerFacts, desired_of
from boxwright.deploy.history import RELEASES, Release, read_releases
from boxwright.errors import BoxwrightError, UsageError
from boxwright.frontends.stack.read import read_stack
from boxwright.model.deployment import Desired
from boxwright.model.image import Healthcheck, ImageConfig, Port
from boxwright.store.store import Store
from tests.unit.deploy.memory import MemoryEngine
from tests.unit.store.made import image, snapshot

TEXT = """\
name: shop
containers:
  web: {image: web, replicas: 2, volumes: ["data:/data"], environment: {COLOUR: red}, links: [api]}
  api: {image: api}
"""
WHOLE = """\
name: shop
containers:
  web:
    image: web
    replicas: 3
    ports: ["8080:80"]
    links: [db, "cache:store"]
    environment: {B: own}
    volumes: ["data:/data", /own]
    healthcheck: {http: /, interval: 300ms}
    update: {strategy: rolling, parallel: 2, canary: 1, wait: 1s}
    placement: {spread: domain, on: [n1]}
    files: [{src: conf, dest: /etc/conf, mode: "0400"}]
    secrets: [key]
    command: [serve, "--all"]
    networks: [default, back]
  db: {database: postgresql}
  cache: {image: cache, networks: [default, back]}
networks: {front: {subnet: 10.60.0.0/24}, back: {internal: true, allow: ["web -> cache:80"]}}
loadbalancer: {web: {listen: 81, weights: {web-2: 5}}}
volumes: {data: {size: 1GiB, replicate: 2, snapshots: {every: 1h, keep: 3}}}
secrets: {key: {}}
resolver: true
"""
CONFIG = ImageConfig(
    "amd64", cmd=("serve",), env=(("A", "b"),), exposed=(Port(80),), healthcheck=Healthcheck(("CMD", "x"), interval=5)
)


def basis_of(text: str, *more: str, replicas: dict[str, int] | None = None) -> Basis:
    stack = read_stack(text, "autopilot.yaml", lambda _, path: path)
    images = {name: ImageFacts(f"sha256:{name}", name, CONFIG) for name in (*(x.name for x in stack.containers), *more)}
    servers = {
        it.name: ServerFacts("postgresql", "/var/lib/dbase", "/database", 5432, f"{it.name}#2")
        for it in stack.containers
        if it.database
    }
    return Basis(stack, Facts(images, servers, {"conf": "sha256:conf"}, replicas or {}))


def deploy(engine: MemoryEngine, store: Store, basis: Basis) -> Release | None:
    return carry(engine, store, desired_of(basis.stack, basis.facts), basis_text(basis))


def carry(engine: MemoryEngine, store: Store, desired: Desired, basis: str) -> Release | None:
    contents = StackContents(engine, "shop", {})
    prepared = prepare_deployment(engine, desired, contents, (), basis=basis)
    return carry_out(engine, prepared, store, "test", lambda _: None)


def scale(engine: MemoryEngine, store: Store, **replicas: int) -> Release | None:
    basis = released_basis(engine, "shop")
    check_replicas(basis, replicas)
    desired, _, text = scaled_stack(engine, basis, replicas, store)
    return carry(engine, store, desired, text)


def running(engine: MemoryEngine) -> list[str]:
    return sorted(new.spec.logical for new, state in engine.instances.values() if state == "running")


def test_earlier_numbers_stay_until_the_next_deployment(store: Store) -> None:
    engine = MemoryEngine()
    deploy(engine, store, basis_of(TEXT))
    scale(engine, store, web=3)
    scale(engine, store, api=2)
    assert running(engine) == ["api-1", "api-2", "web-1", "web-2", "web-3"]
    assert "data-3" in engine.volumes
    scale(engine, store, web=0)
    assert running(engine) == ["api-1", "api-2"]
    scale(engine, store, web=1)
    assert running(engine) == ["api-1", "api-2", "web-1"]
    web = next(new.spec for new, _ in engine.instances.values() if new.spec.container == "web")
    assert dict(web.env)["COLOUR"] == "red"
    deploy(engine, store, basis_of(TEXT))
    assert running(engine) == ["api-1", "web-1", "web-2"]


def test_what_runs_is_left_alone(store: Store) -> None:
    """Whatever the definition says by now: nobody reads it."""
    engine = MemoryEngine()
    deploy(engine, store, basis_of(TEXT))
    before = set(engine.instances)
    scale(engine, store, web=3)
    assert set(engine.instances) - before == {"shop-web-3-g1"}
    assert before <= set(engine.instances)


def test_a_deployment_that_changes_nothing_now_counts_later(store: Store) -> None:
    engine = MemoryEngine()
    none = TEXT.replace("replicas: 2", "replicas: 0")
    deploy(engine, store, basis_of(none))
    assert deploy(engine, store, basis_of(none.replace("red", "blue"))) is None
    assert len(read_releases(engine, "shop")) == 1
    scale(engine, store, web=1)
    web = next(new.spec for new, _ in engine.instances.values() if new.spec.container == "web")
    assert dict(web.env)["COLOUR"] == "blue"


def test_a_basis_is_read_as_it_was_written() -> None:
    basis = basis_of(WHOLE, "lb", "dns", replicas={"cache": 2})
    found = basis_from_text(basis_text(basis))
    assert found is not None
    wanted = desired_of(basis.stack, basis.facts)
    assert desired_of(found.stack, found.facts) == wanted
    assert scaled(found, {}, 1) == (wanted, basis_text(basis))
    other = json.loads(basis_text(basis)) | {"shape": "sha256:0"}
    assert basis_from_text(json.dumps(other)) is None
    assert basis_from_text("") is None


def test_replicas_that_share_a_port_get_a_load_balancer(store: Store) -> None:
    engine = MemoryEngine()
    shared = TEXT.replace("replicas: 2", 'ports: ["8080:80"]')
    deploy(engine, store, basis_of(shared))
    assert lacks_balancer(released_basis(engine, "shop"), {"web": 2})
    assert not lacks_balancer(released_basis(engine, "shop"), {"api": 2})
    image(store, snapshot(store, "haproxy", {"a": b"1"}), BALANCER_TAG)
    scale(engine, store, web=2)
    assert running(engine) == ["api-1", "lb-1", "web-1", "web-2"]
    assert not lacks_balancer(released_basis(engine, "shop"), {"web": 3})
    scale(engine, store, web=1)
    assert running(engine) == ["api-1", "web-1"]


def test_what_can_not_be_scaled_says_so(store: Store) -> None:
    engine = MemoryEngine()
    basis = basis_of(WHOLE, "lb", "dns")
    for replicas in ({"wep": 2}, {"db": 2}, {"lb": 2}):
        with pytest.raises(UsageError):
            check_replicas(basis, replicas)
    with pytest.raises(BoxwrightError) as failed:
        released_basis(engine, "shop")
    assert failed.value.code == "deploy.no-release"
    deploy(engine, store, basis_of(TEXT))
    engine.documents[DEPLOYING] = b"deploy"
    with pytest.raises(BoxwrightError) as failed:
        scale(engine, store, web=3)
    assert failed.value.code == "deploy.unfinished"
    del engine.documents[DEPLOYING]
    older = [
        {key: it for key, it in release.items() if key != "basis"} for release in json.loads(engine.documents[RELEASES])
    ]
    engine.documents[RELEASES] = json.dumps(older).encode()
    with pytest.raises(BoxwrightError) as failed:
        scale(engine, store, web=3)
    assert failed.value.code == "deploy.no-basis"
    assert running(engine) == ["api-1", "web-1", "web-2"]
