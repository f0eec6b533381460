"""The command line. torch is imported only by the commands that compute."""

from __future__ import annotations

import sys
import warnings
from functools import cache
from typing import TYPE_CHECKING

import typer
import typer.main

from slimformer.cli import components, run, search, subnets
from slimformer.errors import SlimformerError, first_line
from slimformer.plugins import Command, load_commands

if TYPE_CHECKING:
    pass

app = typer.Typer(
    help="Make any pretrained transformer slimmable: train once, then pick the width and depth that fit.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)

INTERRUPTED = 130


app.command()(run.run)
app.command()(search.search)
app.command()(subnets.evaluate)
app.command()(subnets.export)
app.command()(subnets.compare)
app.command("list")(components.list_components)
app.command()(components.inspect)
app.command("new-backbone")(components.new_backbone)


@cache
def _add_commands_of_plugins() -> None:
    """Add plugin commands. Built-in commands take precedence; one that typer cannot read is left out with a warning."""
    taken = {command.name or getattr(command.callback, "__name__", "") for command in app.registered_commands}
    for name, function in load_commands().items():
        reason = "slimformer has one of that name" if name in taken else _unreadable(name, function)
        if reason:
            warnings.warn(f"a plugin's command {name!r} was left out: {reason}", stacklevel=2)
        else:
            app.command(name)(function)


def _unreadable(name: str, function: Command) -> str:
    """The reason why typer makes no command of a plugin's function; empty if it does."""
    probe = typer.Typer()
    try:
        probe.command(name)(function)
        typer.main.get_command(probe)
    except Exception as error:  # a stranger's signature: anything can happen
        return f"its arguments cannot be read: {first_line(error)}"
    return ""


def main() -> None:
    """The console script: errors that a user can mend are one line (recipes: a line for each) and an exit code."""
    _add_commands_of_plugins()
    try:
        code = app(standalone_mode=False)  # typer turns Ctrl-C into the code 130, which it returns
        if code == INTERRUPTED:
            raise KeyboardInterrupt
        sys.exit(code or 0)
    except SlimformerError as error:
        print(f"slimformer: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except typer.Exit as stop:
        sys.exit(stop.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        print("slimformer: stopped; nothing finished is lost, the same command goes on", file=sys.stderr)
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        sys.exit(0)
    except Exception as error:
        if hasattr(error, "show") and hasattr(error, "exit_code"):  # typer's own usage errors
            error.show()
            sys.exit(error.exit_code)
        raise
