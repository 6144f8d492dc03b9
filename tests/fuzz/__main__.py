"""`python -m tests.fuzz TARGET --seconds N`: status 0 where nothing was found; else the input stands in .fuzz/."""

from __future__ import annotations

import argparse
import importlib
import sys
import tempfile
from pathlib import Path
from typing import Any

FOUND = Path(".fuzz")
LONGEST = 4096
SLOW_SECONDS = 5


def main() -> None:
    """Fuzz one target; libFuzzer ends the process."""
    options = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    options.add_argument("target", choices=("parser", "words", "ignore"))
    options.add_argument("--seconds", type=int, default=600)
    options.add_argument("--input", type=Path, help="try this one input and nothing else")
    given = options.parse_args()
    if given.input is not None:
        targets = importlib.import_module("tests.fuzz.targets")
        targets.TARGETS[given.target](given.input.read_bytes().decode("utf-8", "replace"))
        return
    # By name: atheris has no types, and is there on some machines only.
    atheris: Any = importlib.import_module("atheris")
    with atheris.instrument_imports(
        include=["boxwright.frontends", "boxwright.sources.ignore", "boxwright.model.glob"]
    ):
        targets = importlib.import_module("tests.fuzz.targets")
    one = targets.TARGETS[given.target]
    FOUND.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="boxwright-fuzz-") as work:
        corpus, words = Path(work, "corpus"), Path(work, "words")
        corpus.mkdir()
        for number, text in enumerate(targets.seeds(given.target)):
            (corpus / str(number)).write_bytes(text.encode("utf-8", "surrogatepass"))
        escaped = (word.replace("\\", "\\\\").replace('"', '\\"') for word in targets.WORDS[given.target].split())
        words.write_text("".join(f'"{word}"\n' for word in escaped), encoding="utf-8")
        limits = [f"-max_total_time={given.seconds}", f"-timeout={SLOW_SECONDS}", f"-max_len={LONGEST}"]
        places = [f"-dict={words}", f"-artifact_prefix={FOUND}/{given.target}-", str(corpus)]
        atheris.Setup(
            [sys.argv[0], *limits, "-print_final_stats=1", *places], lambda data: one(data.decode("utf-8", "replace"))
        )
        atheris.Fuzz()


if __name__ == "__main__":
    main()
