"""The program."""

import sys
from importlib.resources import files


def main() -> None:
    """Greet, with the version that the distribution's metadata say."""
    from importlib.metadata import version

    from greet._speed import name

    word = (files("greet") / "data/word.txt").read_text().strip()
    sys.stdout.write(f"{word} from {name()} {version('greet')}\n")
