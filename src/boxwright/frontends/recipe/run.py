"""RUN (the reference, RUN and "Here-Documents")."""

from __future__ import annotations

from boxwright.frontends.recipe.arguments import exec_form
from boxwright.frontends.recipe.heredoc import content, parse_word
from boxwright.frontends.recipe.keywords import flag_value
from boxwright.frontends.recipe.problem import wrong
from boxwright.frontends.recipe.state import StageState
from boxwright.frontends.recipe.syntax import Instruction
from boxwright.model.step import Mount, Run

NETWORKS = frozenset({"default", "none", "host"})
SECURITIES = frozenset({"sandbox", "insecure"})


def run_step(state: StageState, instruction: Instruction, network: str) -> Run:
    """The step. `network` is the one of a RUN that names none."""
    network = flag_value(instruction.flags, "network") or network
    if network not in NETWORKS and not network.startswith("netns:"):
        raise wrong(f"--network is default, none or host, not {network!r}", instruction.span)
    security = flag_value(instruction.flags, "security") or "sandbox"
    if security not in SECURITIES:
        raise wrong(f"--security is sandbox or insecure, not {security!r}", instruction.span)
    argv, stdin = _command(state, instruction)
    return Run(
        argv=argv,
        env=state.environment(),
        cwd=state.directory,
        user=state.config.user,
        network=network,
        security=security,
        stdin=stdin,
        mounts=_mounts(state, instruction),
        shell=state.shell,
    )


def _mounts(state: StageState, instruction: Instruction) -> tuple[Mount, ...]:
    if not any(flag.name == "mount" for flag in instruction.flags):
        return ()
    from boxwright.frontends.recipe.mounts import mounts

    return mounts(state, instruction)


def _command(state: StageState, instruction: Instruction) -> tuple[tuple[str, ...], str]:
    """The command, and what it reads from its standard input."""
    listed = exec_form(instruction.rest)
    if listed is not None:
        if not listed or "\0" in "".join(listed):
            raise wrong("RUN needs a command", instruction.span)
        return listed, ""
    text, stdin = _script(instruction)
    return (*state.shell, text), stdin


def _script(instruction: Instruction) -> tuple[str, str]:
    """The text for the shell: a lone document is the script itself, others are left to the shell."""
    if not instruction.heredocs:
        return instruction.rest, ""
    if parse_word(instruction.rest) is None:
        return instruction.rest + "".join(f"\n{item.text}{item.name}" for item in instruction.heredocs), ""
    script = content(instruction.heredocs[0])
    interpreter = _interpreter(script)
    return (f"exec {interpreter} /dev/fd/3 3<&0 </dev/null", script) if interpreter else (script, "")


def _interpreter(script: str) -> str:
    """What the ``#!`` line of a script names, for a shell; empty where there is none.

    The interpreter reads the script as a file, descriptor 3, so that nothing is written to the tree and the script's
    length has no limit. Its own standard input is empty, as that of every RUN.
    """
    if not script.startswith("#!"):
        return ""
    program, _, argument = script[2:].partition("\n")[0].strip().partition(" ")
    return " ".join(_quoted(word) for word in (program, argument.strip()) if word)


def _quoted(word: str) -> str:
    """`word` so that a shell takes it as it is."""
    return "'" + word.replace("'", "'\\''") + "'"
