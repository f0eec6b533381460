"""Checkpoints of a stage: they appear under their name only when they are whole."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

from slimformer.files import remove, sync

PARTIAL = ".partial"
"""The folder, beside the checkpoints, in which one is written."""
STATE = "trainer_state.json"
"""The file that transformers writes last."""
NAME = re.compile(r"checkpoint-(\d+)")


def publish(folder: Path) -> None:
    """Give the checkpoint that was written aside its name, then remove the older ones.

    Law: killed at any moment, the folder holds the newest whole checkpoint or the one before it under its name.
    """
    partial = folder / PARTIAL
    for written in partial.iterdir():
        sync(partial)
        final = folder / written.name
        if final.exists():  # a resumed run made the same step again, with the same bits
            continue
        os.replace(written, final)
        sync(folder)
        for older in folder.iterdir():
            if NAME.fullmatch(older.name) and older != final:
                remove(older)
    remove(partial)


def last_checkpoint(folder: Path) -> Path | None:
    """The newest whole checkpoint of a stage; what a killed process left half written is removed."""
    if not folder.is_dir():
        return None
    remove(folder / PARTIAL)
    found = {int(match[1]): path for path in folder.iterdir() if (match := NAME.fullmatch(path.name))}
    for step in [step for step, path in found.items() if not _is_whole(path)]:
        remove(found.pop(step))
    return found[max(found)] if found else None


def is_complete(checkpoint: Path) -> bool:
    """Whether a checkpoint is that of a stage's last step."""
    state = json.loads((checkpoint / STATE).read_text(encoding="utf-8"))
    return bool(state["global_step"] >= state["max_steps"] > 0)


def _is_whole(checkpoint: Path) -> bool:
    try:
        json.loads((checkpoint / STATE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return True
