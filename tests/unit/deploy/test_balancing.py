"""What load balancers are told, and what is known of it from releases."""

from __future__ import annotations

from boxwright.deploy.applying import apply_plan
from boxwright.deploy.balancing import CERTIFICATE, CONFIGURATION, certificate_path
from boxwright.deploy.history import (
    IMAGES,
    RELEASES,
    Release,
    images_of_others,
    images_text,
    read_releases,
    releases_text,
)
from boxwright.deploy.live import Live
from boxwright.deploy.planning import make_plan
from boxwright.model.deployment import Backend, ContainerSpec, Desired, FileSpec, InstanceSpec, Observed
from tests.unit.deploy.memory import MemoryEngine
from tests.unit.deploy.test_planning import Nothing

WEB = Backend("web", 443, 80, certificate="sha256:abc")
PATH = certificate_path(WEB)
SECURE = InstanceSpec("lb", 1, "haproxy", "lb", files=(FileSpec(PATH, f"{CERTIFICATE}web", 0o600),))
PLAIN = SECURE._replace(files=())


def stack(*specs: InstanceSpec, name: str = "shop", backends: tuple[Backend, ...] = (WEB,)) -> Desired:
    containers = tuple(ContainerSpec(it.container, (it,)) for it in specs)
    return Desired(name, containers, backends=backends)


def test_who_has_no_file_for_a_certificate_does_without_tls() -> None:
    live = Live(MemoryEngine(), stack(SECURE), Observed(), {}, lambda it: it.encode())
    told = live.balancing(SECURE)
    assert told[PATH].text == "sha256:abc"
    assert told[PATH].mode == 0o600
    assert f"ssl crt {PATH}" in told[CONFIGURATION].text
    told = live.balancing(PLAIN)
    assert set(told) == {CONFIGURATION}
    assert "ssl" not in told[CONFIGURATION].text
    assert "bind :443" in told[CONFIGURATION].text


def test_releases_that_have_a_certificates_path_are_read() -> None:
    """As an older boxwright wrote them."""
    engine = MemoryEngine()
    old = SECURE._replace(files=(FileSpec(PATH, "sha256:def", 0o400),))
    written = stack(old, backends=(WEB._replace(certificate="./site.pem"), Backend("api", 81, 81)))
    engine.write_document("shop", RELEASES, releases_text([Release(1, 0, "deploy", written)]))
    (release,) = read_releases(engine, "shop")
    assert [it.certificate for it in release.desired.backends] == ["sha256:def", ""]
    assert release.desired.instances == (old,)


class Several(MemoryEngine):
    """With documents of several stacks."""

    def __init__(self, documents: dict[tuple[str, str], bytes]) -> None:
        super().__init__()
        self._kept = documents

    def stacks(self) -> tuple[str, ...]:
        return tuple({stack for stack, _ in self._kept})

    def read_document(self, stack: str, name: str) -> bytes | None:
        return self._kept.get((stack, name))


def test_images_that_other_stacks_may_go_back_to() -> None:
    older = stack(SECURE._replace(image="older"), name="other")
    engine = Several(
        {
            ("shop", RELEASES): releases_text([Release(1, 0, "deploy", stack(SECURE))]),
            ("other", RELEASES): releases_text([Release(1, 0, "deploy", older)]),
            ("other", IMAGES): images_text(["given"]),
        }
    )
    assert images_of_others(engine, "shop") == {"older", "given"}
    assert images_of_others(engine, "other") == {"haproxy"}


def test_who_was_out_of_reach_is_told_later() -> None:
    engine = MemoryEngine()
    wanted = stack(SECURE)
    seen = engine.observe("shop")
    apply_plan(engine, wanted, seen, make_plan(wanted, seen), Nothing(), lambda _: None)
    assert not make_plan(wanted, engine.observe("shop")).work
    (change,) = make_plan(wanted, engine.observe("shop"), untold={"shop-lb-1-g1"}).work
    assert (change.action, change.name) == ("update", "lb-1")
