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
END = "END_OF_SCRIPT"


def run_step(state: StageState, instruction: Instruction, network: str) -> Run:
    """The step. `network` is the one of a RUN that names none."""
    network = flag_value(instruction.flags, "network") or network
    if network not in NETWORKS and not network.startswith("netns:"):
        raise wrong(f"--network is default, none or host, not {network!r}", instruction.span)
    security = flag_value(instruction.flags, "security") or "sandbox"
    if security not in SECURITIES:
        raise wrong(f"--security is sandbox or insecure, not {security!r}", instruction.span)
    return Run(
        argv=_command(state, instruction),
        env=state.environment(),
        cwd=state.directory,
        user=state.config.user,
        network=network,
        security=security,
        mounts=_mounts(state, instruction),
        shell=state.shell,
    )


def _mounts(state: StageState, instruction: Instruction) -> tuple[Mount, ...]:
    if not any(flag.name == "mount" for flag in instruction.flags):
        return ()
    from boxwright.frontends.recipe.mounts import mounts

    return mounts(state, instruction)


def _command(state: StageState, instruction: Instruction) -> tuple[str, ...]:
    listed = exec_form(instruction.rest)
    if listed is not None:
        if not listed or "\0" in "".join(listed):
            raise wrong("RUN needs a command", instruction.span)
        return listed
    return (*state.shell, _script(instruction))


def _script(instruction: Instruction) -> str:
    """The text for the shell: a lone document is the script itself, others are left to the shell."""
    if not instruction.heredocs:
        return instruction.rest
    if parse_word(instruction.rest) is None:
        return instruction.rest + "".join(f"\n{item.text}{item.name}" for item in instruction.heredocs)
    script = content(instruction.heredocs[0])
    return _interpreted(script) if script.startswith("#!") else script


def _interpreted(script: str) -> str:
    """A shell command that gives a script with a ``#!`` line to its interpreter.

    The shell makes the document that the interpreter reads as descriptor 3. So nothing is written to the tree, the
    script's own standard input stays what it is, and any USER may read it.
    """
    line = script[2:].partition("\n")[0].strip()
    interpreter, _, argument = line.partition(" ")
    if not interpreter:
        return script
    end = END
    lines = frozenset(script.split("\n"))
    while end in lines:
        end += "_"
    command = " ".join(_quoted(word) for word in (interpreter, argument.strip()) if word)
    newline = "" if script.endswith("\n") else "\n"
    return f"exec {command} /dev/fd/3 3<<'{end}'\n{script}{newline}{end}\n"


def _quoted(word: str) -> str:
    """`word` so that a shell takes it as it is."""
    return "'" + word.replace("'", "'\\''") + "'"
