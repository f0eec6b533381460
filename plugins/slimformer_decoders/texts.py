"""Plain text for language models: from text files, tables with a column of texts, and the hub."""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from pathlib import Path

from slimformer.errors import DataError, first_line
from slimformer.tasks import column, data_files, ending, read

SPLITS = ("train", "validation", "test")
TEXT_ENDINGS = (".md", ".text", ".tokens", ".txt")
"""Endings of plain text, each also with .gz behind it."""


def is_text(file: Path) -> bool:
    return file.name.lower().removesuffix(".gz").endswith(TEXT_ENDINGS)


def read_texts(path: str, name: str) -> list[str]:
    """The texts of a file or of a folder's files: a plain text file is one text, each row of a table is one.

    name: of the column that holds the texts.
    Raises: DataError for a path that is not there, a file that cannot be read, or one without text.
    """
    place = Path(path).expanduser()
    plain = sorted(filter(is_text, place.iterdir())) if place.is_dir() else [place] if _is_plain(place) else []
    texts = [_read_plain(file) for file in plain] if plain else _read_table(place, name)
    if not any(text.strip() for text in texts):
        raise DataError(f"{path} has no text")
    return texts


def _is_plain(file: Path) -> bool:
    """A file of an unknown ending is plain text too."""
    return file.is_file() and (is_text(file) or not ending(file))


def _read_plain(file: Path) -> str:
    try:
        data = file.read_bytes()
        return (gzip.decompress(data) if file.suffix == ".gz" else data).decode("utf-8-sig")
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read {file} as text: {error}") from error


def _read_table(place: Path, name: str) -> list[str]:
    files = data_files(place)
    return [str(text) for text in column(read(files, (name,)), (name,), files[0]) if text is not None]


def hub_texts(dataset: str, subset: str, name: str) -> dict[str, list[str]]:
    """The texts of each split that a data set of the hub has, of train, validation and test.

    Raises: DataError when the hub is out of reach or the data set has no train split with that column.
    """
    from datasets import load_dataset

    try:
        loaded = load_dataset(dataset, subset or None)
    except Exception as error:  # the network, the hub and the cache each have their own
        raise DataError(
            f"cannot load {dataset} {subset} from the hub: {first_line(error)}. Give local files with `--set task.train=FILE` "
            "and `--set task.test=FILE`"
        ) from error
    if "train" not in loaded:
        raise DataError(f"{dataset} has no split called 'train'; it has: {', '.join(loaded)}")
    return {split: _texts(loaded[split].to_dict(), name, f"{dataset} {split}") for split in SPLITS if split in loaded}


def _texts(table: dict[str, Sequence[object]], name: str, source: str) -> list[str]:
    return [str(text) for text in column(table, (name,), source)]
