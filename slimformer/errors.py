"""Errors with a message for the user: the request, what was found, and what to write instead."""

from __future__ import annotations

import re

_ESCAPE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-_])")

LONGEST_LINE = 2000
"""Characters of an error line; the rest of a longer one is left out."""


class SlimformerError(Exception):
    """Root of every error that a user can mend; the command line prints it as one line and exits with `exit_code`."""

    exit_code = 2


class RecipeError(SlimformerError):
    """A recipe (or an override of it) that cannot be read as one; the message lists every mistake, a line each."""


class UnknownComponentError(SlimformerError):
    """A name that no registered component has."""


class TopologyError(SlimformerError):
    """A topology that does not fit the model it is said to describe, or a spec that does not fit the topology."""


class SpaceError(SlimformerError):
    """Choices that the topology does not offer: an unknown axis, a ratio outside (0, 1]."""


class WorkloadError(SlimformerError):
    """Inputs of a size that the model does not take."""


class CheckpointError(SlimformerError):
    """Pretrained weights that cannot be found, read or trusted."""


class DataError(SlimformerError):
    """A data set, file or column that cannot be found or read."""


class RunError(SlimformerError):
    """A run folder that is missing, damaged, or holds a run of another recipe."""


class PluginError(SlimformerError):
    """A plugin that cannot be made as asked: its name is taken, or its folder is not empty."""


class ExportError(SlimformerError):
    """A sub-network that could not be written as a model which reloads to the same outputs."""


class RepairError(SlimformerError):
    """A sub-network could not be repaired."""


class SearchError(SlimformerError):
    """A search that cannot begin or go on: an empty probe, a storage that is lost or is another search's."""


class InfeasibleError(SlimformerError):
    """No sub-network of the space meets every limit."""

    exit_code = 3


class InterruptedRunError(SlimformerError):
    """The user stopped the run; a checkpoint was written first, and the same command goes on from it."""

    exit_code = 130


def first_line(error: BaseException) -> str:
    """The first line of the innermost cause's message, short enough for a one-line error."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:200]


def printable(text: str) -> str:
    """A text without terminal escapes; other control characters are shown as "?" and a line end as a space."""
    plain = " ".join(_ESCAPE.sub("", text).split("\n")).replace("\t", " ").strip()
    shown = "".join(character if character.isprintable() else "?" for character in plain)
    return shown if len(shown) <= LONGEST_LINE else f"{shown[:LONGEST_LINE]} ..."
