from __future__ import annotations

import argparse
import subprocess

import pytest

from boxwright.cli.completion import Subcommand, bash, describe, fish, zsh


def example() -> Subcommand:
    parser = argparse.ArgumentParser()
    parser.add_argument("image", metavar="IMAGE")
    parser.add_argument("--progress", choices=("plain", "json"), help="how it's shown: 10%% or so")
    return describe("export", "write an image", parser)


def test_a_parser_is_described() -> None:
    found = example()
    assert found.images
    assert ("--progress", "how it's shown: 10% or so") in found.options
    assert found.choices == {"--progress": ("plain", "json")}


@pytest.mark.parametrize(
    ("line", "answer"),
    [
        ("boxwright ", "export"),
        ("boxwright export --p", "--progress"),
        ("boxwright export --progress ", "plain json"),
        ("boxwright export he", "hello:latest"),
        ("boxwright export hello:la", "latest"),
    ],
)
def test_bash_completes(line: str, answer: str) -> None:
    words = line.split(" ")
    script = f"""
    boxwright() {{ echo hello:latest; }}
    {bash([example()])}
    COMP_WORDS=({" ".join(words)} {"''" if line.endswith(" ") else ""}); COMP_CWORD={len(words) - 1}
    COMP_LINE='{line}'; COMP_POINT={len(line)}
    _boxwright; echo "${{COMPREPLY[*]}}"
    """
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)
    assert (done.stdout.strip(), done.stderr) == (answer, "")


def test_quotes_are_quoted() -> None:
    assert "how it'\\''s shown" in zsh([example()])
    assert "how it\\'s shown" in fish([example()])
