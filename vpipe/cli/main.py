"""The `vpipe` command: a lazy group (a command's file is imported only when it runs) and the exit codes.

0 all done; 1 nothing succeeded, the machine failed, or a check found a fault; 2 a bad flag, model, device or
value, before any input is touched; 3 some failed and some succeeded; 130 and 143 interrupted (Ctrl-C,
SIGTERM); 141 the reader of stdout has gone.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import sys
import traceback
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

import vpipe
from vpipe.cli import interrupt
from vpipe.cli.output import ClosedPipe, fill_standard_streams, silence_stdout
from vpipe.cli.settings import settings_for
from vpipe.errors import VpipeError, one_line

# command -> (module with a Typer `app`, one-line help), in the order of --help
COMMANDS: dict[str, tuple[str, str]] = {
    "check": ("vpipe.cli.check", "Decode videos fully and report what is wrong with them."),
    "extract": ("vpipe.cli.extract", "Write frames as pictures or HDF5."),
    "flow": ("vpipe.cli.flow", "Compute optical flow into the cache."),
    "cache": ("vpipe.cli.cache", "Look into the flow cache, check it, make room, pack, export."),
    "classify": ("vpipe.cli.classify", "Label whole videos."),
    "detect": ("vpipe.cli.detect", "Find labelled moments (start, end, score) in long videos."),
    "features": ("vpipe.cli.features", "Write snippet features for detectors of any kind."),
    "eval": ("vpipe.cli.eval", "Score detections against annotations."),
    "train": ("vpipe.cli.train", "Train a model on your own labels."),
    "models": ("vpipe.cli.models", "List models, show what is in a weight file, fuse."),
    "bench": ("vpipe.cli.bench", "Compare flow, flow-free and 3-D networks on this machine."),
    "synth": ("vpipe.cli.synth", "Generate videos with exact truth."),
}

SETTINGS_HELP = (
    "Settings: flag > environment (VPIPE_JOBS, VPIPE_FLOW_PRESET, ...) > TOML file "
    "(VPIPE_CONFIG, else config.toml in the user's vpipe config folder) > default."
)

INTERRUPTED, TERMINATED, CLOSED_PIPE = 130, 143, 141


class LazyGroup(TyperGroup):
    """Knows every command's name and help without importing it; lists those whose file exists."""

    def list_commands(self, ctx: Any) -> list[str]:
        return [name for name, (module, _) in COMMANDS.items() if importlib.util.find_spec(module)]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in self.list_commands(ctx):
            return None
        if cmd_name not in self.commands:
            app = importlib.import_module(COMMANDS[cmd_name][0]).app
            self.commands[cmd_name] = _quiet_help(typer.main.get_command(app))
        command = self.commands[cmd_name]
        ctx.default_map = {cmd_name: settings_for(cmd_name, command, tuple(COMMANDS))}
        return command

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        # The base class imports every command to ask for its help.
        rows = [(name, COMMANDS[name][1]) for name in self.list_commands(ctx)]
        if rows:
            with formatter.section("Commands"):
                formatter.write_dl(rows)


def _quiet_help(command: Any) -> Any:
    """Leave out the VPIPE_<COMMAND>_<OPTION> that every option has; those with a name of their own stay."""
    for param in command.params:
        param.show_envvar = param.envvar is not None
    for child in getattr(command, "commands", {}).values():
        _quiet_help(child)
    return command


def _print_version(asked: bool) -> None:
    if asked:
        print(f"vpipe {vpipe.__version__}")
        raise typer.Exit


app = typer.Typer(
    cls=LazyGroup,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"auto_envvar_prefix": "VPIPE", "help_option_names": ["-h", "--help"]},
)


@app.callback(epilog=SETTINGS_HELP)
def root(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version and exit."),
    ] = False,
) -> None:
    """Video files into motion, motion into labels, labels into moments."""


def main() -> NoReturn:
    """Run the command line and exit with one of the codes above."""
    fill_standard_streams()
    interrupt.watch()
    for stream in (sys.stdout, sys.stderr):
        # What is printed is the same bytes under every locale.
        with contextlib.suppress(AttributeError):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")  # type: ignore[union-attr]
    stdout = sys.stdout
    try:
        code = _run(sys.argv[1:] or ["--help"])
    except KeyboardInterrupt:
        code = INTERRUPTED
    except SystemExit:
        if sys.stdout is stdout:
            raise
        code = CLOSED_PIPE  # Typer met it while printing help, and wrapped stdout
    if code == INTERRUPTED:
        code = TERMINATED if interrupt.terminated() else INTERRUPTED
        print(f"vpipe: {'terminated' if interrupt.terminated() else 'interrupted'}", file=sys.stderr)
    try:
        sys.stdout.flush()
    except OSError:
        silence_stdout()
    sys.exit(code)


def _refusal(error: Any) -> str:
    """What Typer did not accept, where it came from, and the help to read."""
    context, param = getattr(error, "ctx", None), getattr(error, "param", None)
    source = context.get_parameter_source(param.name) if context and param else None
    origin = {"ENVIRONMENT": ", from a VPIPE_* variable", "DEFAULT_MAP": ", from the settings file"}
    where = origin.get(source.name, "") if source else ""
    see = f"{context.command_path if context else 'vpipe'} --help"
    return f"{one_line(error.format_message())} (see {see}{where})"


def _run(arguments: list[str]) -> int:
    command = _quiet_help(typer.main.get_command(app))
    for param in command.params:
        param.allow_from_autoenv = False  # VPIPE_VERSION and the like are no flags
    try:
        return command.main(arguments, prog_name="vpipe", standalone_mode=False) or 0
    except ClosedPipe:
        return CLOSED_PIPE
    except VpipeError as fault:
        print(f"vpipe: error: {one_line(fault.message)} [{fault.code}]", file=sys.stderr)
        if "-vv" in arguments:
            traceback.print_exc()
        return fault.exit_code
    except typer.TyperException as error:
        # A flag or value that Typer refused.
        print(f"vpipe: error: {_refusal(error)} [bad_usage]", file=sys.stderr)
        return error.exit_code
    except typer.Abort:
        return INTERRUPTED


if __name__ == "__main__":
    main()
