"""Files of variables, and that no Compose file gives anything but a stack or an error with its place."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from boxwright.errors import BoxwrightError, DefinitionError
from boxwright.frontends.stack import composekeys
from boxwright.frontends.stack.compose import read_compose
from boxwright.frontends.stack.composekeys import Keys
from boxwright.frontends.stack.composemounts import ComposeWorld
from boxwright.frontends.stack.composetext import substitute
from boxwright.frontends.stack.envfile import env_file, raw_env_file
from boxwright.model.span import Span

DATA = Path(__file__).parents[3] / "cases" / "stack"
ENV_FILES = yaml.safe_load((DATA / "envfiles.yaml").read_text("utf-8"))
SET = {"A": "one", "EMPTY": ""}
HERE = Span("compose.yaml", 1, 1)


def error_of(work: Callable[[], object]) -> BoxwrightError | None:
    """The error that a user would see; anything else is a bug."""
    try:
        work()
    except BoxwrightError as error:
        return error
    return None


@pytest.mark.parametrize("case", ENV_FILES, ids=[case["name"] for case in ENV_FILES])
def test_a_file_of_variables_is_read_as_compose_does(case: dict[str, Any]) -> None:
    if "variables" in case:
        assert env_file(case["text"], "a.env", SET) == case["variables"]
        return
    with pytest.raises(DefinitionError) as caught:
        env_file(case["text"], "a.env", SET)
    where = caught.value.where
    assert where is not None
    assert [caught.value.code, where.line, where.column] == case["error"]
    assert case["hint"] in caught.value.hint


@given(st.text(alphabet="AB =:#'\"\\$\n\r\t{}?-+exportx\0"))
def test_any_text_is_a_file_of_variables_or_an_error(text: str) -> None:
    raw_env_file(text)
    error = error_of(lambda: env_file(text, "a.env", SET))
    assert error is None or (error.code in ("stack.env-file", "stack.variable") and error.where is not None)


@given(st.dictionaries(st.from_regex(r"[A-Za-z_][A-Za-z0-9_]*", fullmatch=True), st.text().map(lambda it: it + ".")))
def test_what_is_written_in_single_quotes_is_read_as_it_was(variables: dict[str, str]) -> None:
    plain = {name: value for name, value in variables.items() if "\\" not in value and "\r" not in value}
    text = "".join(f"{name}='{value.replace(chr(39), chr(92) + chr(39))}'\n" for name, value in plain.items())
    assert env_file(text, "a.env", {}) == plain


@given(st.text(alphabet="${}AXY:-?+ z\n"))
def test_any_text_has_variables_or_an_error(text: str) -> None:
    error = error_of(lambda: substitute(text, SET, HERE, lambda _: None))
    assert error is None or error.code == "stack.variable"


@given(st.text())
def test_a_text_whose_dollars_are_written_twice_is_itself(text: str) -> None:
    assert substitute(text.replace("$", "$$"), SET, HERE, lambda _: None) == text


def test_variables_inside_of_each_other_have_an_end() -> None:
    many = 5_000
    with pytest.raises(DefinitionError) as caught:
        substitute("${X:-" * many + "}" * many, SET, HERE, lambda _: None)
    assert caught.value.code == "stack.variable"
    assert substitute("${X:-" * 40 + "$A" + "}" * 40, SET, HERE, lambda _: None) == "one"


# Whole files ----------------------------------------------------------------------------------------------------------

KEYS = [it for it in vars(composekeys).values() if isinstance(it, Keys)]
NAMES = sorted({key for keys in KEYS for key in (*keys.read, *keys.left_out)} | set(composekeys.MOUNT_PARTS))
TEXTS = [
    "", "a", "web", "db", "a:b", "a:/b:ro", "./a", "/a", "8080-8090:80", "127.0.0.1:1:2/udp", "80", "NONE", "CMD",
    "CMD-SHELL", "1s", "1..5s", "always", "on-failure:3", "service_healthy", "service_completed_successfully", "true",
    "volume", "bind", "10.0.0.0/24", "0400", "$A", "${X:-${A}}", "$$", "A=b", "=", "host", "bridge", "'",
]  # fmt: skip
ANY = st.one_of(
    st.sampled_from(TEXTS), st.text("ab:/-$1 \n", max_size=5), st.integers(-1, 10**6), st.none(), st.booleans()
)
VALUES = st.recursive(
    ANY,
    lambda it: st.lists(it, max_size=3) | st.dictionaries(st.sampled_from([*NAMES, "web", "a", "<<"]), it, max_size=3),
    max_leaves=8,
)
LIKELY: dict[str, list[str]] = {
    "condition": ["service_healthy", "service_completed_successfully", "any", "on-failure", "x"],
    "mode": ["replicated", "global", "host", "0400", "x"],
    "type": ["volume", "bind", "tmpfs", "x"],
    "source": ["a", "./a", "k"],
    "restart": ["no", "always", "on-failure:3", "true", "x"],
    "order": ["stop-first", "x"],
    "failure_action": ["rollback", "pause", "x"],
    "format": ["raw", "x"],
    "protocol": ["udp", "TCP", "sctp"],
    "host_ip": ["127.0.0.1", "::1", ""],
    "driver": ["bridge", "macvlan"],
}
"""What a key is given most often, so that what comes after it is reached."""
LIKELY |= {key: ["80", "80-82", "/a", "x", "99999"] for key in ("target", "published")}
LIKELY |= {
    key: ["1s", "1m.5s", "1", "."] for key in ("interval", "timeout", "start_period", "delay", "stop_grace_period")
}
LIKELY |= {key: ["0", "2", "1001", "-1"] for key in ("replicas", "retries", "parallelism", "scale")}
LIKELY |= {key: ["true", "no", "x"] for key in ("disable", "required", "read_only", "internal")}
MAPPINGS = {
    "build": composekeys.BUILD, "bind": composekeys.MOUNT_PARTS["bind"], "volume": composekeys.MOUNT_PARTS["volume"],
    "update_config": composekeys.UPDATE, "restart_policy": composekeys.RESTART_POLICY, "ipam": composekeys.IPAM,
    "deploy": composekeys.DEPLOY, "healthcheck": composekeys.HEALTHCHECK,
}  # fmt: skip
LISTS = {
    "config": composekeys.SUBNET, "env_file": composekeys.ENV_FILE, "ports": composekeys.PORT,
    "volumes": composekeys.MOUNT, "secrets": composekeys.SECRET_USE, "configs": composekeys.CONFIG_USE,
}  # fmt: skip
NAMED = {"depends_on": composekeys.DEPENDENCY, "networks": composekeys.SERVICE_NETWORK}
WORDS = ("test", "command", "entrypoint", "links", "aliases", "profiles", "environment", "args", "depends_on")


def value_of(key: str) -> st.SearchStrategy[object]:
    """What a key is given: most often of the kind that it takes."""
    if key in MAPPINGS:
        likely: st.SearchStrategy[object] = mappings(MAPPINGS[key])
    elif key in LISTS:
        likely = st.lists(mappings(LISTS[key]) | st.sampled_from(TEXTS), max_size=2)
    elif key in NAMED:
        likely = st.dictionaries(st.sampled_from(["web", "db", "a", "default"]), mappings(NAMED[key]), max_size=2)
    elif key in WORDS:
        likely = st.lists(st.sampled_from(["CMD", "NONE", "web", "db:x", "a", "A=b", "b"]), max_size=3)
    else:
        likely = st.sampled_from(LIKELY.get(key, ["a", "web", "$A", "/a", "a b"]))
    return st.integers(0, 19).flatmap(lambda number: likely if number else VALUES)


def mappings(keys: Keys) -> st.SearchStrategy[dict[str, object]]:
    return st.deferred(
        lambda: (
            st.fixed_dictionaries({}, optional={key: value_of(key) for key in sorted(keys.read)})
            | st.dictionaries(st.sampled_from(sorted(keys.left_out or keys.read)), VALUES, max_size=2)
        )
    )


SERVICES = mappings(composekeys.SERVICE).map(lambda it: {"image": "a", **it})
DOCUMENTS = st.fixed_dictionaries(
    {"services": st.dictionaries(st.sampled_from(["web", "db", "a_b", "a-b"]), SERVICES, min_size=1, max_size=3)},
    optional={
        "name": ANY,
        "networks": st.dictionaries(st.sampled_from(["a", "default", "web"]), mappings(composekeys.NETWORK)),
        "volumes": st.dictionaries(st.sampled_from(["a", "k"]), mappings(composekeys.VOLUME)) | VALUES,
        "secrets": st.dictionaries(st.sampled_from(["a", "k"]), mappings(composekeys.SECRET)),
        "configs": st.dictionaries(st.sampled_from(["a", "k"]), mappings(composekeys.CONFIG)),
        "x-a": VALUES,
    },
)


def read(text: str) -> BoxwrightError | None:
    def locate(_: str, name: str) -> str | None:
        return f"/here/{name}" if "a" in name else None

    world = ComposeWorld(locate, lambda _: "A=b\n", SET, ("a",), "", "native", "here")
    error = error_of(lambda: read_compose(text, "compose.yaml", world))
    assert error is None or (error.code.startswith("stack.") and error.where is not None)
    return error


@given(DOCUMENTS)
def test_any_document_is_a_stack_or_an_error_with_its_place(document: dict[str, object]) -> None:
    read(json.dumps(document))


@given(st.text())
def test_any_text_is_a_stack_or_an_error_with_its_place(text: str) -> None:
    read(text)


def test_aliases_of_aliases_have_an_end() -> None:
    lines = ["a0: &a0 {x: 1}", *(f"a{number}: &a{number} {{x: *a{number - 1}}}" for number in range(1, 300))]
    read("\n".join([*(f"x-{line}" for line in lines), "services: {web: {image: a, <<: *a299}}"]))


def test_many_services_that_all_wait_for_those_before_them_take_no_time() -> None:
    """There are 2^60 ways from the last to the first."""
    names = [f"s{number}-x" for number in range(60)]
    services = {name: {"image": "a", "depends_on": names[:number]} for number, name in enumerate(names)}
    assert read(json.dumps({"services": services})) is None
    services[names[0]]["depends_on"] = names[-1:]
    error = read(json.dumps({"services": services}))
    assert error is not None
    assert error.code == "stack.cycle"


@pytest.mark.parametrize("keys", KEYS)
def test_no_key_is_both_read_and_left_out(keys: Keys) -> None:
    assert not keys.read & keys.left_out
