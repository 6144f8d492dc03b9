"""Rules of networks: what they mean for each container, and where its addresses are."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from boxwright.deploy.addresses import CUT, choose_subnet, next_address, part_of
from boxwright.deploy.guarding import guards_of, parts_of, rules_text
from boxwright.deploy.naming import records_text, resolver_addresses, service_names
from boxwright.errors import BoxwrightError
from boxwright.model.deployment import InstanceSpec, Service, spec_from_text, spec_hash, spec_text
from boxwright.model.rules import Rule, parse_rule
from boxwright.model.stack import StackNetwork

NAMES = st.lists(st.from_regex(r"[a-z]{1,6}", fullmatch=True), min_size=1, max_size=40, unique=True)


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("web -> db:5432", Rule("web", "db", "tcp", 5432, 5432)),
        ("web->db", Rule("web", "db")),
        ("*:53/udp", Rule("*", "*", "udp", 53, 53)),
        ("10.1.2.3", Rule("*", "10.1.2.3/32")),
        ("10.1.2.3/8 -> lb:80-90/tcp", Rule("10.0.0.0/8", "lb", "tcp", 80, 90)),
    ],
)
def test_a_rule_is_read(text: str, rule: Rule) -> None:
    assert parse_rule(text) == rule


@pytest.mark.parametrize(
    "text", ["", "->", "web ->", "a -> b -> c", "db:0", "db:70000", "db:9-8", "db:80/icmp", "db/udp", "a b"]
)
def test_a_rule_that_is_none(text: str) -> None:
    with pytest.raises(ValueError, match="no rule"):
        parse_rule(text)


@given(NAMES, st.sampled_from([[], ["dns"]]))
def test_parts_never_meet(names: list[str], more: list[str]) -> None:
    """Not those of two containers, nor with the gateway; the resolver's addresses are in its own."""
    listed = list(dict.fromkeys([*names, *more]))
    subnet = choose_subnet("shop", "back", (), CUT)
    parts = parts_of(listed)
    width = 1 << max(15, len(listed)).bit_length()
    found = {name: ipaddress.IPv4Network(part_of(subnet, width, part)) for name, part in parts.items()}
    assert len(set(found.values())) == len(listed)
    for name, part in found.items():
        first = ipaddress.IPv4Address(next_address(subnet, (), str(part)))
        assert first in part
        assert first != ipaddress.IPv4Network(subnet)[1]
        special = [ipaddress.IPv4Address(it) in part for it in resolver_addresses(subnet)]
        assert all(special) if name == "dns" else not any(special) or "dns" not in listed


def test_a_subnet_that_is_too_small() -> None:
    with pytest.raises(BoxwrightError) as raised:
        part_of("10.0.0.0/27", 16, 3)
    assert raised.value.code == "deploy.subnet-full"


def test_each_side_has_its_half() -> None:
    networks = [
        (StackNetwork("front", deny=("spy -> web:80",)), ("web", "spy")),
        (StackNetwork("back", allow=("web -> db:5432",)), ("web", "spy", "db")),
        (StackNetwork("free"), ("web", "db")),
    ]
    guards = guards_of("db", networks, (Rule("lb", "web", "tcp", 80, 80),))
    assert [it.network for it in guards] == ["back"]
    assert [it.action for it in guards[0].incoming] == ["accept", "reject"]
    assert [it.action for it in guards[0].outgoing] == ["reject"]
    spec = InstanceSpec("db", 1, "i", "n", networks=("back", "free"), guards=guards)
    assert spec_from_text(spec_text(spec)) == spec
    text = rules_text(spec, {"back": "10.64.16.0/20", "free": "10.70.0.0/24"})
    web = part_of("10.64.16.0/20", 16, parts_of(("web", "spy", "db"))["web"])
    assert f"    ip saddr 10.64.16.0/20 ip saddr {web} tcp dport 5432 accept\n" in text
    assert "    ip saddr 10.70.0.0/24 accept\n" in text
    assert rules_text(spec._replace(guards=()), {}) == ""


def test_a_stack_without_rules_is_as_it_was() -> None:
    """What runs is not replaced since there could be rules."""
    spec = InstanceSpec("db", 1, "i", "n", networks=("back",))
    assert "guards" not in spec_text(spec)
    assert spec_hash(spec) == spec_hash(spec._replace(guards=guards_of("db", [(StackNetwork("back"), ("db",))], ())))


def test_records_of_services() -> None:
    web = InstanceSpec("web", 1, "i", "n", aliases=("web", "shown"))
    present = {"web-1": (web, (("in", "10.1.1.2"),)), "web-2": (web._replace(number=2), (("in", "10.1.1.3"),))}
    names = service_names("tcp", 8080, "http")
    assert names == ("8080", "http")
    text = records_text(
        [Service("web", "tcp", 8080, names), Service("gone", "udp", 53, ("53",))], present, {"web-2": 3}
    )
    assert "local-data: 'web. 1 IN A 10.1.1.3'\n" in text
    assert "local-data: '_http._tcp.shown. 1 IN SRV 0 10 8080 web-1.'\n" in text
    assert "local-data: '_8080._tcp.web. 1 IN SRV 0 3 8080 web-2.'\n" in text
    assert "gone" not in text
