"""Write files whole or not at all, and read them back with clear errors."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slimformer.errors import CheckpointError, ExportError, RunError

if TYPE_CHECKING:
    pass

MEND = "remove it and run the same 'slimformer run' command again"


@contextmanager
def writing(place: Path) -> Iterator[None]:
    """Turn a failure to write into one clear line."""
    try:
        yield
    except OSError as error:
        reason = "the disk is full" if error.errno == errno.ENOSPC else str(error)
        raise RunError(f"could not write {place}: {reason}; nothing finished is lost, the same command goes on") from error
    except Exception as error:
        if "No space left" in str(error) or "os error 28" in str(error):  # safetensors reports it as its own error
            raise RunError(
                f"could not write {place}: the disk is full; nothing finished is lost, the same command goes on"
            ) from error
        raise


@contextmanager
def reading(place: Path) -> Iterator[None]:
    """Turn a failure to read back a model of the run into one clear line."""
    try:
        yield
    except (CheckpointError, ExportError) as error:
        raise RunError(f"{place} is damaged ({str(error).partition(';')[0]}): {MEND}") from error


def write_whole(target: Path, write: Callable[[Path], object]) -> None:
    """Call `write` with a path beside the target, then put what it wrote in the target's place.

    Law: killed at any moment, the target is the old one or the new one, whole. A folder cannot be replaced in one step: the old
    one is moved aside first, and a call that finds it aside and no target puts it back.

    Raises: OSError, also for a file whose target is a folder, which stays.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    partial, old = target.with_name(f".{target.name}.partial"), target.with_name(f".{target.name}.old")
    if old.exists() and not target.exists():
        os.replace(old, target)
    remove(partial)
    try:
        write(partial)
        sync(partial)
        if partial.is_dir() and target.exists():
            remove(old)
            os.replace(target, old)
        os.replace(partial, target)
        sync(target.parent)
    finally:
        remove(partial)
    remove(old)


def sync(path: Path) -> None:
    """Wait until a file, or a folder with all that it holds, is on the disk; give files the mode that the umask says."""
    for place in (path, *(path.rglob("*") if path.is_dir() and path.name.startswith(".") else ())):
        if place.is_file():
            place.chmod(0o666 & ~_UMASK)
        descriptor = os.open(place, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _umask() -> int:
    """The umask of the process, which can only be read by setting it."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


_UMASK = _umask()
"""Some libraries write files that only their owner can read."""


def write_text(target: Path, text: str) -> None:
    write_whole(target, lambda partial: partial.write_text(text, encoding="utf-8"))


def remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RunError(f"{path} is damaged ({error}): {MEND}") from None


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The objects of a JSON-lines file; a last line cut short by a crash is left out."""
    if not path.is_file():
        return []
    rows = []
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    for number, line in enumerate(lines, start=1):
        try:
            rows.append(json.loads(line))
        except ValueError:
            if number < len(lines):
                raise RunError(f"{path}:{number} is damaged: remove that line and try again") from None
    return rows


def append_line(path: Path, row: Mapping[str, Any]) -> None:
    """Add one line to a JSON-lines file; a last line that a crash cut short is dropped first."""
    if path.is_file() and path.read_bytes()[-1:] not in (b"", b"\n"):
        write_text(path, "".join(json.dumps(whole) + "\n" for whole in read_lines(path)))
    with path.open("a", encoding="utf-8") as stream:
        stream.write(json.dumps(row) + "\n")
