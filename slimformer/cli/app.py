"""The command line. torch is imported only by the commands that compute."""

from __future__ import annotations

import sys
import warnings
from functools import cache
from typing import Annotated, Any, NoReturn, Protocol, runtime_checkable

import typer
import typer.main
from typer.core import TyperGroup, TyperOption

from slimformer.cli import components, faults, run, search, subnets
from slimformer.cli.options import print_version
from slimformer.errors import SlimformerError, first_line
from slimformer.plugins import Command, load_commands

INTERRUPTED = 130


def _set_debug(value: bool) -> None:
    faults.INVOCATION.debug = faults.INVOCATION.debug or value


@cache
def _debug_option() -> TyperOption:
    """The option --debug, as typer makes it from a signature."""

    def command(
        debug: Annotated[
            bool,
            typer.Option(
                "--debug", expose_value=False, callback=_set_debug, help="Print the traceback of an unexpected error."
            ),
        ] = False,
    ) -> None: ...

    probe = typer.Typer(add_completion=False)
    probe.command()(command)
    return next(option for option in typer.main.get_command(probe).params if isinstance(option, TyperOption))


class _Commands(TyperGroup):
    """The commands, each with an option --debug."""

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        command = super().get_command(ctx, cmd_name)
        if command is not None and not any("--debug" in parameter.opts for parameter in command.params):
            command.params.append(_debug_option())
        return command


app = typer.Typer(
    cls=_Commands,
    help="Make any pretrained transformer slimmable: train once, then pick the width and depth that fit.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def _common(
    version: Annotated[
        bool, typer.Option("--version", callback=print_version, is_eager=True, help="Print the versions and exit.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Print the traceback of an unexpected error.")] = False,
) -> None:
    _set_debug(debug)


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


@runtime_checkable
class _UsageError(Protocol):
    """A wrong use of a command's options, as typer reports it."""

    exit_code: int

    def show(self) -> None: ...

    def format_message(self) -> str: ...


def main() -> None:
    """Run the command of sys.argv and exit.

    Every error is one line on stderr (recipes: a line for each mistake) and an exit code: 2 for bad input and for unexpected
    exceptions, 3 where no sub-network meets the limits, 130 where the user stopped. The traceback of an unexpected
    exception is in a file that the line names; --debug, or SLIMFORMER_DEBUG=1, prints it.
    """
    faults.begin()
    with faults.one_line_warnings():
        _main()


def _main() -> NoReturn:
    try:
        _add_commands_of_plugins()
        code = app(standalone_mode=False)  # typer turns Ctrl-C into the code 130, which it returns
        if code == INTERRUPTED:
            raise KeyboardInterrupt
        sys.exit(code or 0)
    except SlimformerError as error:
        _fail(faults.error_lines(error), error.exit_code)
    except typer.Exit as stop:
        sys.exit(stop.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        _fail("stopped; nothing finished is lost, the same command goes on", INTERRUPTED)
    except BrokenPipeError:
        sys.exit(0)
    except OSError as error:
        _fail(faults.place_line(error) or faults.report_fault(error), 2)
    except Exception as error:
        if isinstance(error, _UsageError):
            _refuse_usage(error)
        _fail(faults.report_fault(error), 2)


def _fail(text: str, code: int) -> NoReturn:
    print(f"slimformer: {text}", file=sys.stderr)
    sys.exit(code)


def _refuse_usage(error: _UsageError) -> NoReturn:
    message = faults.printable(error.format_message())
    if not message or type(error).__name__ == "NoArgsIsHelpError":
        error.show()
        sys.exit(error.exit_code)
    command = getattr(getattr(error, "ctx", None), "command_path", "slimformer")
    end = "" if message.endswith((".", "?", "!")) else "."
    _fail(f"{message}{end} See {command} --help", error.exit_code)
