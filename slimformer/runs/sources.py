"""What a run was made from: the files of its checkpoint and data, to notice when they change in place."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from slimformer.checkpoints import locate
from slimformer.errors import CheckpointError, RunError
from slimformer.files import read_json, write_text, writing
from slimformer.recipe.schema import Recipe
from slimformer.recipe.table import to_table
from slimformer.reports.json_shapes import items, number, table, text
from slimformer.runs.folder import RunFolder

MOST_FILES = 2000
"""Of a folder with more files, such as one of pictures, only this many are looked at."""

Stamp = tuple[int, int, str]
"""Size in bytes, time of the last change in ns, SHA-256."""


def note_sources(recipe: Recipe, folder: RunFolder) -> None:
    """Write down the files that a run reads, once; a run of an older version gets its note when it goes on."""
    if folder.sources.is_file() and not folder.is_untouched():
        return
    own = folder.path.absolute()
    found = {str(file): _stamp(file) for file in _files(recipe) if not file.is_relative_to(own)}
    with writing(folder.path):
        write_text(folder.sources, json.dumps(found, indent=1))


def check_sources(folder: RunFolder) -> None:
    """Compare the files that a run was made from with what they are now; those that are gone are left out.

    Raises: RunError naming a file whose content has changed.
    """
    if not folder.sources.is_file():
        return
    for name, before in _noted(folder).items():
        file = Path(name)
        if file.is_file() and _has_changed(file, before):
            raise RunError(f"{name} has changed since the run in {folder.path} read it: give another --out folder")


def _noted(folder: RunFolder) -> dict[str, Stamp]:
    try:
        return {name: _to_stamp(value) for name, value in table(read_json(folder.sources), "the document").items()}
    except ValueError as error:
        raise RunError(f"{folder.sources} is damaged ({error}): remove it and try again") from None


def _to_stamp(value: object) -> Stamp:
    size, changed, digest = items(value, "a file's note")
    return int(number(size, "size")), int(number(changed, "time")), text(digest, "hash")


def _has_changed(file: Path, before: Stamp) -> bool:
    size, changed, digest = before
    now = file.stat()
    if now.st_size != size:
        return True
    return now.st_mtime_ns != changed and _sha256(file) != digest


def _stamp(file: Path) -> Stamp:
    return file.stat().st_size, file.stat().st_mtime_ns, _sha256(file)


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _files(recipe: Recipe) -> Iterator[Path]:
    """The files of the checkpoint and of the task, where they lie in folders of their own (not in a hub's cache)."""
    places = [place for place in (_checkpoint(recipe.model.checkpoint), _checkpoint(recipe.model.fallback)) if place]
    places += [place for place in _texts(to_table(recipe)["task"]) if _is_place(place)]
    for place in dict.fromkeys(places):
        yield from _below(Path(place).expanduser().absolute())


def _checkpoint(name: str) -> str:
    try:
        place = locate(name).removeprefix("new:") if name else ""
    except CheckpointError:
        return ""
    return place if _exists(place) else ""


def _exists(place: str) -> bool:
    try:
        return bool(place.strip()) and Path(place).expanduser().exists()
    except (OSError, ValueError, RuntimeError):  # too long for a path, or with a NUL
        return False


def _is_place(written: str) -> bool:
    """Whether a value of the task names a file or folder; a bare word, such as a column's name, names no folder."""
    return _exists(written) and (Path(written).expanduser().is_file() or any(c in written.strip("./") for c in "/."))


def _below(place: Path) -> Iterator[Path]:
    if place.is_file():
        yield place
        return
    count = 0
    for folder, folders, names in os.walk(place):
        folders.sort()
        for name in sorted(names):
            file = Path(folder, name)
            if not name.startswith(".") and file.is_file():
                yield file
                count += 1
            if count == MOST_FILES:
                return


def _texts(value: object) -> Iterator[str]:
    """Every text in a table of a recipe."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for part in value.values():
            yield from _texts(part)
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _texts(part)
