"""One-line errors: what a user can mend, and the faults of slimformer or a library, whose traceback goes to a file."""

from __future__ import annotations

import errno
import os
import sys
import tempfile
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from slimformer.errors import RecipeError, SlimformerError, first_line, printable

TRACEBACK = "traceback.txt"
"""The file of a run folder that holds the traceback of the last fault."""

FAULT = "a fault of slimformer or of a library, not of the input"
"""Part of the error line of an unexpected exception."""

MACHINE = frozenset(
    (errno.EACCES, errno.EPERM, errno.ENOSPC, errno.EROFS, errno.EDQUOT, errno.ENAMETOOLONG, errno.ELOOP, errno.EMFILE)
)
"""Errors of the machine or a path, not of code."""


@dataclass
class Invocation:
    """State of the command that runs.

    debug: print tracebacks. run_folder: where a traceback is written, None for a temporary file.
    """

    debug: bool = False
    run_folder: Path | None = None


INVOCATION = Invocation()
"""The command that runs; `main` starts it afresh."""


def begin() -> None:
    """Reset the state before a command."""
    INVOCATION.debug = os.environ.get("SLIMFORMER_DEBUG", "") not in ("", "0")
    INVOCATION.run_folder = None


def error_lines(error: SlimformerError) -> str:
    """The message of an error of ours: one line, but for a recipe one for each mistake."""
    parts = str(error).split("\n") if isinstance(error, RecipeError) else [str(error)]
    return "\n".join(printable(part) for part in parts)


def fault_line(error: BaseException) -> str:
    """The line that reports an unexpected exception: type and message of its innermost cause, and where the traceback is."""
    cause = error
    while cause.__cause__ is not None:
        cause = cause.__cause__
    kind = type(cause).__name__
    said = _message(cause)
    return f"{kind}: {said}" if said and said != kind else kind


def report_fault(error: BaseException) -> str:
    """Print or keep the traceback of an unexpected exception; returns the line for stderr."""
    text = "".join(traceback.format_exception(error))
    if INVOCATION.debug:
        print(text, file=sys.stderr, end="")
        return f"{fault_line(error)} ({FAULT})"
    file = _keep(text)
    where = f"the traceback is in {printable(str(file))}" if file else "--debug prints the traceback"
    return f"{fault_line(error)} ({FAULT}; {where})"


def place_line(error: OSError) -> str:
    """The line for a file or folder of which the machine allows no use; empty for any other error."""
    if error.errno not in MACHINE:
        return ""
    place = f"{error.filename}: " if error.filename else ""
    return printable(f"{place}{error.strerror}")


def _message(error: BaseException) -> str:
    try:
        return printable(first_line(error))
    except Exception:  # the message may itself be a stranger's code
        return "its message cannot be shown"


def _keep(text: str) -> Path | None:
    """Write a traceback into the run folder, else a temporary file; None where neither can be written."""
    folder = INVOCATION.run_folder
    data = text.encode("utf-8", errors="backslashreplace")
    try:
        if folder is not None and folder.is_dir():
            (folder / TRACEBACK).write_bytes(data)
            return folder / TRACEBACK
    except OSError:
        pass
    try:
        descriptor, name = tempfile.mkstemp(prefix="slimformer-traceback-", suffix=".txt")
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(data)
    except OSError:
        return None
    return Path(name)


@contextmanager
def one_line_warnings() -> Iterator[None]:
    """Print each warning as one line."""
    before = warnings.formatwarning
    warnings.formatwarning = _warning_line
    try:
        yield
    finally:
        warnings.formatwarning = before


def _warning_line(message: Warning | str, category: type[Warning], *place: object, **more: object) -> str:
    kind = "" if category is UserWarning else f"{category.__name__}: "
    return f"slimformer: warning: {kind}{printable(str(message))}\n"
