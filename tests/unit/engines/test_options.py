from __future__ import annotations

import socket
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from boxwright.engines.forward import Forward, claim, parse_forward, pasta_options, wanted
from boxwright.engines.names import check_name, made_up_name
from boxwright.engines.options import DEFAULT_PATH, RunOptions, check, invocation
from boxwright.engines.signals import signal_number
from boxwright.errors import BoxwrightError, UsageError
from boxwright.model.image import ImageConfig, Port

IMAGE = ImageConfig("amd64", env=(("A", "image"), ("B", "2")), entrypoint=("/e", "1"), cmd=("c", "2"), user="app")
PORTS = st.integers(1, 65535)


@pytest.mark.parametrize(
    ("options", "argv"),
    [
        (RunOptions("i"), ("/e", "1", "c", "2")),
        (RunOptions("i", ("x",)), ("/e", "1", "x")),
        (RunOptions("i", entrypoint="/other"), ("/other",)),
        (RunOptions("i", ("x", "y"), entrypoint="/other"), ("/other", "x", "y")),
        (RunOptions("i", ("x",), entrypoint=""), ("x",)),
    ],
)
def test_what_is_run(options: RunOptions, argv: tuple[str, ...]) -> None:
    assert invocation(IMAGE, options).argv == argv


@pytest.mark.parametrize(
    ("config", "options"), [(ImageConfig("amd64"), RunOptions("i")), (IMAGE, RunOptions("i", entrypoint=""))]
)
def test_nothing_to_run(config: ImageConfig, options: RunOptions) -> None:
    with pytest.raises(BoxwrightError) as caught:
        invocation(config, options)
    assert caught.value.code == "run.no-command"


def test_environment_directory_and_user() -> None:
    plain = invocation(IMAGE, RunOptions("i"))
    assert dict(plain.env) == {"PATH": DEFAULT_PATH, "A": "image", "B": "2"}
    assert (plain.cwd, plain.user) == ("/", "app")
    asked = RunOptions("i", env=(("A", "mine"), ("PATH", "/p"), ("TERM", "t")), workdir="/w", user="0")
    given = invocation(IMAGE._replace(workdir="/image"), asked, "xterm")
    assert dict(given.env) == {"PATH": "/p", "A": "mine", "B": "2", "TERM": "t"}
    assert (given.cwd, given.user) == ("/w", "0")
    assert dict(invocation(IMAGE, RunOptions("i"), "xterm").env)["TERM"] == "xterm"


@pytest.mark.parametrize(
    ("options", "code"),
    [
        (RunOptions("i", ports=(Forward(80, "tcp", 80),), network="none"), "usage.port"),
        (RunOptions("i", ports=(Forward(80, "tcp", 80),), network="host"), "usage.port"),
        (RunOptions("i", workdir="a/b"), "usage.workdir"),
    ],
)
def test_options_that_do_not_fit_together(options: RunOptions, code: str) -> None:
    with pytest.raises(UsageError) as caught:
        check(options)
    assert caught.value.code == code


# Ports ---------------------------------------------------------------------------------------------------------------


@given(
    container=PORTS, host=st.none() | PORTS, address=st.none() | st.ip_addresses(v=4), udp=st.sampled_from(["", "/udp"])
)
def test_ports_are_read_as_written(container: int, host: int | None, address: object, udp: str) -> None:
    front = f"{address}:{host or ''}:" if address else f"{host}:" if host else ""
    expected = Forward(container, udp[1:] or "tcp", host or 0, str(address or ""))
    assert parse_forward(f"{front}{container}{udp}") == expected


@given(st.text(alphabet="0123456789:./tcpud-", max_size=20) | st.text(max_size=10))
def test_any_text_is_a_port_or_wrong_use(text: str) -> None:
    try:
        found = parse_forward(text)
    except UsageError as error:
        assert error.code == "usage.port"  # noqa: PT017  most texts are no ports, some are
    else:
        assert 0 < found.container <= 65535
        assert 0 <= found.host <= 65535


def test_a_given_port_replaces_the_images() -> None:
    published = (Port(80, "tcp", 8080), Port(53, "udp", 53))
    exposed = (Port(80), Port(443), Port(9, "sctp"))
    assert wanted(published, (), ()) == (Forward(80, "tcp", 8080), Forward(53, "udp", 53))
    assert wanted(published, exposed, (Forward(80, "tcp", 9000),)) == (
        Forward(80, "tcp", 9000),
        Forward(53, "udp", 53),
        Forward(443, "tcp", 0),
    )
    two = (Forward(80, "tcp", 1), Forward(80, "tcp", 2))
    assert wanted(published[:1], (), two) == two


def test_free_ports_are_distinct() -> None:
    asked = [Forward(port, protocol, 0, "127.0.0.1") for port in (1, 2, 3) for protocol in ("tcp", "udp")]
    claimed = claim(asked)
    assert len({(forward.protocol, forward.host) for forward in claimed}) == len(asked)
    assert all(forward.host for forward in claimed)
    with pytest.raises(BoxwrightError) as caught:
        claim([claimed[0], claimed[0]])
    assert caught.value.code == "run.port-taken"
    with pytest.raises(BoxwrightError) as caught:
        claim([Forward(1, "tcp", 0, "192.0.2.1")])
    assert caught.value.code == "run.port-address"


def test_a_port_that_is_going_away_is_waited_for() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        asked = [Forward(1, "tcp", taken.getsockname()[1], "127.0.0.1")]
        with pytest.raises(BoxwrightError) as caught:
            claim(asked)
        assert caught.value.code == "run.port-taken"
        threading.Timer(0.1, taken.close).start()
        assert claim(asked, 10) == tuple(asked)


def test_as_pasta_has_them() -> None:
    forwards = [Forward(80, "tcp", 8080), Forward(53, "udp", 5353, "127.0.0.1"), Forward(81, "tcp", 81, "127.0.0.1")]
    assert pasta_options(forwards) == (("8080:80", "127.0.0.1/81:81"), ("127.0.0.1/5353:53",))
    assert str(forwards[0]) == "*:8080->80/tcp"


# Names and signals ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["", ".", "..", "-x", "a/b", "a b", "ä", "a" * 64, "a\n", ".lock"])
def test_what_is_no_name(name: str) -> None:
    with pytest.raises(UsageError):
        check_name(name)


def test_made_up_names_are_names() -> None:
    names = {made_up_name() for _ in range(50)}
    assert {check_name(name) for name in names} == names
    assert len(names) > 40


@pytest.mark.parametrize(
    ("text", "number"),
    [("", 15), ("SIGQUIT", 3), ("quit", 3), (" 9 ", 9), ("RTMIN+3", 37), ("SIGRTMIN", 34), ("SIGWINCH", 28)],
)
def test_signals(text: str, number: int) -> None:
    assert signal_number(text) == number


@pytest.mark.parametrize("text", ["0", "99", "-1", "NOPE", "SIG", "TERM+", "RTMIN+99", "SIG_DFL", "9.0", "TERM+1x"])
def test_what_is_no_signal(text: str) -> None:
    with pytest.raises(UsageError):
        signal_number(text)
