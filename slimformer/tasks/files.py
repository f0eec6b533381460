"""Tables of text from local files: tsv, csv, json, jsonl and parquet, the text formats also gzipped."""

from __future__ import annotations

import csv
import gzip
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from slimformer.errors import DataError, first_line

Table = Mapping[str, Sequence[Any]]
"""Column name -> its values, in the file's order; a missing value is None."""

FORMATS = {
    ".tsv": "csv",
    ".tsv.gz": "csv",
    ".csv": "csv",
    ".csv.gz": "csv",
    ".json": "json",
    ".json.gz": "json",
    ".jsonl": "json",
    ".jsonl.gz": "json",
    ".parquet": "parquet",
}
"""File ending -> the builder of `datasets` that reads it."""


def ending(path: Path) -> str:
    """The known ending of a file's name, "" when no reader knows it."""
    return max((end for end in FORMATS if path.name.lower().endswith(end)), key=len, default="")


def data_files(path: Path) -> list[Path]:
    """The file itself, or the data files that lie in a folder, by name.

    Raises: DataError for a path that is not there and for a kind of file that no reader knows.
    """
    if not path.exists():
        raise DataError(f"there is no file or folder {path}")
    files = sorted(file for file in path.iterdir() if ending(file)) if path.is_dir() else [path]
    if not files or not all(map(ending, files)):
        raise DataError(f"cannot read {path}: give a file that ends in one of {', '.join(FORMATS)}, or a folder of such files")
    return files


def find_shards(folder: Path, stems: Sequence[str]) -> list[Path]:
    """The files of the first of the stems that the folder has: `train.tsv.gz`, `train-00000-of-00001.parquet`, ..."""
    for stem in stems:
        named = [file for file in sorted(folder.iterdir()) if file.name.startswith((f"{stem}.", f"{stem}-")) and ending(file)]
        whole = [file for file in named if file.name.startswith(f"{stem}.")]
        if named:
            return whole[:1] or named
    return []


def read(files: Sequence[Path], columns: Sequence[str] = ()) -> Table:
    """Every row of files of one kind, in order.

    In a .tsv a quote is an ordinary character, as in GLUE's files; in a .csv it encloses a field.
    columns: the names of the columns of a tsv or csv, used where the first line has none of these names.
    Raises: DataError for an empty or unreadable file.
    """
    try:
        table = _load(files, columns)
    except Exception as error:  # pandas, pyarrow and datasets each have their own
        raise DataError(f"cannot read {files[0]}: {first_line(error)}") from error
    if not any(len(values) for values in table.values()):
        raise DataError(f"{files[0]} has no rows")
    return table


def column(table: Table, names: Sequence[str], source: object) -> Sequence[Any]:
    """The column that has the first of the names that the table knows.

    Raises: DataError naming the columns there are.
    """
    known = [name for name in names if name in table]
    if not known:
        raise DataError(f"{source} has no column {' or '.join(map(repr, names))}; its columns are: {', '.join(table)}")
    return table[known[0]]


@contextmanager
def quiet_datasets() -> Iterator[None]:
    """No progress bars of `datasets` for files that are read in a moment, and no log of an error that is raised anyway."""
    from datasets.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars
    from datasets.utils.logging import CRITICAL, get_verbosity, set_verbosity

    disabled, verbosity = are_progress_bars_disabled(), get_verbosity()
    disable_progress_bars()
    set_verbosity(CRITICAL)
    try:
        yield
    finally:
        set_verbosity(verbosity)
        if not disabled:
            enable_progress_bars()


def _load(files: Sequence[Path], columns: Sequence[str]) -> Table:
    """The rows through `datasets`, its Arrow copy in a folder that goes away."""
    from datasets import load_dataset_builder

    if not any(file.stat().st_size for file in files):
        return {}
    kind = FORMATS[ending(files[0])]
    options = _csv_options(files[0], columns) if kind == "csv" else {}
    with quiet_datasets(), TemporaryDirectory() as cache:
        paths = _plain_names(files, Path(cache) / "files")
        builder = load_dataset_builder(kind, data_files=paths, cache_dir=cache, **options)
        builder.download_and_prepare()
        return builder.as_dataset("train").to_dict() if builder.info.splits["train"].num_examples else {}


def _plain_names(files: Sequence[Path], folder: Path) -> list[str]:
    """Links to the files under names without brackets, stars and colons, which `datasets` takes for patterns."""
    folder.mkdir()
    links = [folder / f"{number:06d}{ending(file)}" for number, file in enumerate(files)]
    for link, file in zip(links, files, strict=True):
        link.symlink_to(file.resolve())
    return [str(link) for link in links]


def _csv_options(file: Path, columns: Sequence[str]) -> dict[str, Any]:
    """Every field is read as it stands: no guessed types, and "NA" or "null" are words; an empty field is missing."""
    from datasets import Features, Value

    tabs = ".tsv" in ending(file)
    options = {
        "delimiter": "\t" if tabs else ",",
        "quoting": csv.QUOTE_NONE if tabs else csv.QUOTE_MINIMAL,
        "keep_default_na": False,
        "na_values": [""],
        "encoding": "utf-8-sig",
    }
    first = _first_row(file, options["delimiter"], options["quoting"])
    named = not columns or not set(columns).isdisjoint(first)
    names = first if named else list(columns)
    features = Features({name: Value("string") for name in names})
    return options | {"names": names, "header": 0 if named else None, "features": features}


def _first_row(file: Path, delimiter: Any, quoting: Any) -> list[str]:
    opened = gzip.open if file.name.endswith(".gz") else open
    with opened(file, "rt", encoding="utf-8-sig", newline="") as lines:
        return next(csv.reader(lines, delimiter=delimiter, quoting=quoting), [])
