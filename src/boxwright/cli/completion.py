"""Print a completion script for a shell.

bash: source <(boxwright completion bash). zsh: source <(boxwright completion zsh).
fish: boxwright completion fish | source
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec

from boxwright.cli.console import say

IMAGE_WORDS = frozenset({"IMAGE"})


@dataclass(frozen=True, slots=True)
class Subcommand:
    """What can follow a subcommand: options with their help, choices of options and arguments, whether images."""

    name: str
    help: str
    options: tuple[tuple[str, str], ...]
    choices: Mapping[str, tuple[str, ...]]
    arguments: tuple[str, ...]
    images: bool


def configure(parser: argparse.ArgumentParser) -> None:
    """The argument of `completion`."""
    parser.add_argument("shell", choices=("bash", "zsh", "fish"))


def run(options: argparse.Namespace) -> int:
    """Print the script."""
    writers = {"bash": bash, "zsh": zsh, "fish": fish}
    say(writers[options.shell](subcommands()))
    return 0


def subcommands() -> list[Subcommand]:
    """Every subcommand, as its own parser describes it."""
    from boxwright.cli.main import COMMANDS, parser_for

    return [
        describe(name, text, parser_for(name))
        for name, text in COMMANDS.items()
        if " " not in name and find_spec(f"boxwright.cli.{name}") is not None
    ]


def describe(name: str, text: str, parser: argparse.ArgumentParser) -> Subcommand:
    """What can follow a subcommand."""
    options: list[tuple[str, str]] = []
    choices: dict[str, tuple[str, ...]] = {}
    arguments: list[str] = []
    images = name in ("rm", "inspect")
    for action in parser._actions:  # noqa: SLF001 - argparse has no other way to ask
        values = tuple(str(choice) for choice in action.choices or ())
        for option in action.option_strings:
            options.append((option, (action.help or "").replace("%%", "%")))
            if values:
                choices[option] = values
        if not action.option_strings:
            arguments.extend(values)
            images = images or str(action.metavar or action.dest).upper() in IMAGE_WORDS
    return Subcommand(name, text, tuple(options), choices, tuple(arguments), images)


def bash(commands: list[Subcommand]) -> str:
    """The script for bash."""
    lines = [
        "_boxwright() {",
        "  local current=${COMP_LINE:0:COMP_POINT} previous=${COMP_WORDS[COMP_CWORD-1]} words= images=",
        "  current=${current##* }",
        "  COMPREPLY=()",
        f"  if [ $COMP_CWORD -eq 1 ]; then COMPREPLY=($(compgen -W '{_names(commands)}' -- \"$current\")); return; fi",
        "  case ${COMP_WORDS[1]},$previous in",
    ]
    lines += [
        f"    {command.name},{option}) words='{' '.join(values)}'; "
        'COMPREPLY=($(compgen -W "$words" -- "$current")); return ;;'
        for command in commands
        for option, values in command.choices.items()
    ]
    lines += ["  esac", "  case ${COMP_WORDS[1]} in"]
    for command in commands:
        words = " ".join((*command.arguments, *(option for option, _ in command.options)))
        images = "; images=1" if command.images else ""
        lines.append(f"    {command.name}) words='{words}'{images} ;;")
    lines += [
        "  esac",
        '  if [ -n "$images" ] && [ "${current#-}" = "$current" ]; then',
        '    words="$words $(boxwright images --names 2>/dev/null)"',
        "  fi",
        '  COMPREPLY=($(compgen -W "$words" -- "$current"))',
        "  # A colon ends a word for readline: what stands before it is on the line already.",
        '  COMPREPLY=("${COMPREPLY[@]#"${current%"${current##*:}"}"}")',
        "  return 0",
        "}",
        "complete -o default -F _boxwright boxwright",
    ]
    return "\n".join(lines)


def zsh(commands: list[Subcommand]) -> str:
    """The script for zsh."""
    lines = [
        "#compdef boxwright",
        "_boxwright() {",
        "  local -a given names; given=($words)",
        "  if (( CURRENT == 2 )); then",
        "    names=(",
        *(f"      {_single(f'{command.name}:{command.help}')}" for command in commands),
        "    )",
        "    _describe command names; return",
        "  fi",
        "  case $given[2] in",
    ]
    for command in commands:
        lines.append(f"    {command.name})")
        lines += [
            f"      [[ ${{given[CURRENT-1]}} == {option} ]] && {{ compadd -- {' '.join(values)}; return }}"
            for option, values in command.choices.items()
        ]
        described = " ".join(_single(f"{option}:{text}") for option, text in command.options)
        lines.append(f"      names=({described}); [[ $PREFIX == -* ]] && _describe option names")
        if command.arguments:
            lines.append(f"      compadd -- {' '.join(command.arguments)}")
        if command.images:
            lines.append('      compadd -- ${(f)"$(boxwright images --names 2>/dev/null)"}')
        lines.append("      _files ;;")
    return "\n".join([*lines, "  esac", "}", "compdef _boxwright boxwright"])


def fish(commands: list[Subcommand]) -> str:
    """The script for fish."""
    lines = ["complete -c boxwright -e"]
    for command in commands:
        lines.append(f"complete -c boxwright -f -n __fish_use_subcommand -a {command.name} -d {_quoted(command.help)}")
        seen = f"-n '__fish_seen_subcommand_from {command.name}'"
        for option, text in command.options:
            kind = f"-l {option[2:]}" if option.startswith("--") else f"-s {option[1:]}"
            values = f" -x -a {_quoted(' '.join(command.choices[option]))}" if option in command.choices else ""
            lines.append(f"complete -c boxwright {seen} {kind}{values} -d {_quoted(text)}")
        if command.arguments:
            lines.append(f"complete -c boxwright {seen} -f -a {_quoted(' '.join(command.arguments))}")
        if command.images:
            lines.append(f"complete -c boxwright {seen} -a '(boxwright images --names 2>/dev/null)'")
    return "\n".join(lines)


def _names(commands: list[Subcommand]) -> str:
    return " ".join(command.name for command in commands)


def _single(text: str) -> str:
    """In single quotes, as POSIX shells read them."""
    return "'" + text.replace("'", "'\\''") + "'"


def _quoted(text: str) -> str:
    """In single quotes, as fish reads them."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
