"""The ``strop`` command: finds the verb, and turns errors into one message and exit code 1.

Exit codes: 0 done; 1 a StropError; 2 the command line itself is wrong; 3 ``strop check`` found naive steps; 130 interrupted.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from strop import knobs
from strop.cli.custom_files import run_custom_files
from strop.cli.output import show_error
from strop.errors import OptionError, StropError
from strop.version import __version__

#: One module of ``strop.cli`` per verb, in the order of the help text; its ``command`` is the function, and this the first line
#: of that function's docstring; a module with verbs of its own has an ``app``.
VERBS = {
    "demo": "Builds the packaged LeNet and shows what became of it: fused layers, accuracy, latency.",
    "build": "Makes an engine file of a model.",
    "run": "Runs an engine or a model once.",
    "bench": "Measures an engine or a model: latency, throughput, memory.",
    "inspect": "Tells what an engine does, step by step.",
    "calibrate": "Finds the range of every value that an int8 build quantizes.",
    "eval": "Tells how good an engine or a model is on samples.",
    "check": "Tells what a build would make of every node of a model.",
    "diff": "Compares two runtimes or engines layer by layer, and names the first layer that departs.",
    "debug": "Finds the smallest failing part of a model, what makes it fail, and what costs accuracy.",
    "dump": "Prints the text inside an engine or a model.",
    "ops": "Lists ONNX ops with the opsets they are read from, PyTorch, TensorFlow or TensorFlow Lite ops, Keras layers, or the kernels.",
    "trtexec": "Builds and times a network with the options of TensorRT's trtexec.",
    "knobs": "Lists the environment variables, their values and defaults.",
}


class Verbs(TyperGroup):
    """Imports a verb's module when it is asked for, so that a verb only needs what it uses."""

    def list_commands(self, ctx: Any) -> list[str]:
        """The verbs, in order."""
        return list(VERBS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command of one verb, or None when there is no such verb."""
        if cmd_name not in VERBS:
            return None
        module = import_module(f"strop.cli.{cmd_name}")
        if hasattr(module, "app"):  # a verb with verbs of its own
            return typer.main.get_command(module.app)
        single = typer.Typer(add_completion=False, rich_markup_mode=None)
        single.command(cmd_name, context_settings=getattr(module, "SETTINGS", None))(module.command)
        return typer.main.get_command(single)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """The list of verbs in the help text; imports none of them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(VERBS.items()))


app = typer.Typer(
    cls=Verbs,
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Makes a small, fast engine file of a trained network, and runs it.",
)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"strop {__version__}")
        raise typer.Exit()


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and end.")
    ] = False,
) -> None:
    """Makes a small, fast engine file of a trained network, and runs it."""
    run_custom_files()


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command line; always ends in SystemExit."""
    try:
        typer.main.get_command(app)(
            args=None if arguments is None else list(arguments), prog_name="strop"
        )
    except (StropError, ModuleNotFoundError) as error:
        shown = error if isinstance(error, StropError) else _missing_package(error)
        if shown is None or _wants_traceback():
            raise
        show_error(shown)
        sys.exit(1)


def _missing_package(error: ModuleNotFoundError) -> StropError | None:
    """The error for a package that should have been installed with Strop; None when a module of Strop itself is missing."""
    package = (error.name or "strop").split(".")[0]
    if package == "strop":
        return None
    return OptionError(f"the package {package} is not installed", hint=f"pip install {package}")


def _wants_traceback() -> bool:
    try:
        return knobs.DEBUG.get() >= 1
    except StropError:
        return False


if __name__ == "__main__":
    main()
