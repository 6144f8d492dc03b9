"""Templates give the same text each time."""

from __future__ import annotations

import pytest
from jinja2.exceptions import TemplateError

from boxwright.frontends.templates import make_environment

NAMES = {"xs": ["b", "a"], "m": {"k": 1}, "n": None, "f": 1.5}


@pytest.mark.parametrize(
    "text",
    [
        "{{ xs | random }}",
        "{{ lipsum() }}",
        "{{ lipsum }}",
        "{{ m | items }}",
        "{{ 5 | items }}",
        "{{ [xs | map('upper')] }}",
        "{{ {'a': cycler(1)} }}",
        "{{ joiner(',') }}",
        "{{ 'x'.upper }}",
        "{{ 'x'.upper | string }}",
        "{{ 'a' ~ 'x'.upper }}",
        "{{ '%s' | format(xs | select) }}",
        "{% set v = xs | reject %}{{ v }}",
    ],
)
def test_what_differs_from_run_to_run_is_an_error(text: str) -> None:
    with pytest.raises((TemplateError, TypeError)):
        make_environment().from_string(text).render(NAMES)


@pytest.mark.parametrize(
    ("text", "given"),
    [
        ("{{ xs | sort | join(', ') }} {{ n }} {{ f }}", "a, b None 1.5"),
        ("{{ m }} {{ xs | map('upper') | list }} {{ m.items() }}", "{'k': 1} ['B', 'A'] dict_items([('k', 1)])"),
        ("{% for x in xs %}{{ loop.cycle(1, 2) }}{{ x }}{% endfor %} {{ cycler(3, 4).next() }}", "1b2a 3"),
        ("{% macro m(a) %}<{{ a }}>{% endmacro %}{{ m(1) }} {{ range(3) }}", "<1> range(0, 3)"),
        ("<function f at 0x7f0000000000>", "<function f at 0x7f0000000000>"),
        ("{{ 'look at 0xabcdef' }}", "look at 0xabcdef"),
    ],
)
def test_what_is_plain_is_written(text: str, given: str) -> None:
    assert make_environment().from_string(text).render(NAMES) == given
