"""Pictures and their classes: from folders, parquet and other tables, the hub, and scikit-learn's digits."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slimformer.errors import DataError, first_line
from slimformer.tasks import column, data_files, find_shards, read

if TYPE_CHECKING:
    from PIL.Image import Image

DIGITS = "digits"
DIGITS_TEST = 360
"""How many of scikit-learn's 1,797 digits are the test split: the last ones, by other writers than most of the first."""
STEMS = {"train": ("train",), "validation": ("validation", "valid", "val", "dev"), "test": ("test",)}
"""Split -> what its file or folder may be called."""
ENDINGS = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")
IMAGE_COLUMNS, LABEL_COLUMNS = ("image", "img"), ("label", "labels")


@dataclass(frozen=True)
class Picture:
    """open: reads and decodes it. label: its class as the source writes it, a name or a number."""

    open: Callable[[], Image]
    label: str


@dataclass(frozen=True)
class Pictures:
    """The splits of a data set, "train" among them, and the names of its classes where the source knows them."""

    splits: Mapping[str, Sequence[Picture]]
    classes: tuple[str, ...] = ()


def find(data: str) -> Pictures:
    """scikit-learn's digits, the pictures of a folder, or a data set of the hub.

    Raises: DataError saying what to give.
    """
    if data == DIGITS:
        return _digits()
    folder = Path(data).expanduser()
    if folder.is_dir():
        return _local(folder)
    if folder.is_absolute() or data.startswith((".", "~")):
        raise DataError(f"there is no folder {data}: give a folder with train and test, a hub data set, or {DIGITS!r}")
    return _hub(data)


def _digits() -> Pictures:
    from sklearn.datasets import load_digits

    found = load_digits()
    pixels = (found.images * 15).astype("uint8")
    pictures = [Picture(partial(_from_pixels, p), str(label)) for p, label in zip(pixels, found.target, strict=True)]
    splits = {"train": pictures[:-DIGITS_TEST], "test": pictures[-DIGITS_TEST:]}
    return Pictures(splits, tuple(map(str, range(10))))


def _local(folder: Path) -> Pictures:
    splits = {name: found for name, stems in STEMS.items() if (found := _split(folder, stems))}
    if "train" not in splits:
        splits = {"train": _by_class(folder)}
    if not splits["train"]:
        raise DataError(
            f"{folder} has no pictures: give a folder with train.parquet, or with train/CLASS/NAME.jpg (or .png, ...), and "
            "with test or validation beside it"
        )
    return Pictures(splits)


def _split(folder: Path, stems: Sequence[str]) -> list[Picture]:
    """The pictures of a split: a folder of classes, a folder of tables, or tables."""
    for stem in stems:
        if (folder / stem).is_dir():
            return _by_class(folder / stem) or _from_tables(data_files(folder / stem))
    files = find_shards(folder, stems)
    return _from_tables(files) if files else []


def _by_class(folder: Path) -> list[Picture]:
    return [
        Picture(partial(_from_file, file), place.name)
        for place in sorted(folder.iterdir())
        if place.is_dir()
        for file in sorted(place.rglob("*"))
        if file.suffix.lower() in ENDINGS
    ]


def _from_tables(files: Sequence[Path]) -> list[Picture]:
    table, source = read(files), files[0]
    return _from_columns(column(table, IMAGE_COLUMNS, source), column(table, LABEL_COLUMNS, source), source)


def _from_columns(images: Sequence[Any], labels: Sequence[Any], source: object) -> list[Picture]:
    encoded: list[Any] = [image.get("bytes") if isinstance(image, Mapping) else image for image in images]
    for row, (data, label) in enumerate(zip(encoded, labels, strict=True), start=1):
        if not isinstance(data, bytes) or label is None:
            raise DataError(f"row {row} of {source} has no label or no picture as bytes (an encoded jpg or png)")
    rows = enumerate(zip(encoded, labels, strict=True), start=1)
    return [Picture(partial(_from_bytes, data, f"row {row} of {source}"), str(label)) for row, (data, label) in rows]


def _hub(name: str) -> Pictures:
    from datasets import Image, load_dataset

    try:
        loaded = load_dataset(name)
    except Exception as error:  # the network, the hub and the cache each have their own
        raise DataError(
            f"there is no folder {name}, and the hub's data set cannot be had: {first_line(error)}. Give a folder with "
            f"`--set task.data=FOLDER`, or `--set task.data={DIGITS}`, which needs no download"
        ) from error
    splits, classes = {}, ()
    for split, stems in STEMS.items():
        stem = next((stem for stem in stems if stem in loaded), "")
        if stem:
            part = loaded[stem]
            image, label = (
                next((n for n in names if n in part.features), names[0]) for names in (IMAGE_COLUMNS, LABEL_COLUMNS)
            )
            classes = tuple(getattr(part.features.get(label), "names", ()))
            table = part.cast_column(image, Image(decode=False)).to_dict() if image in part.features else part.to_dict()
            source = f"{name} {split}"
            splits[split] = _from_columns(column(table, (image,), source), column(table, (label,), source), source)
    if "train" not in splits:
        raise DataError(f"{name} has no split called 'train'; it has: {', '.join(loaded)}")
    return Pictures(splits, classes)


def _from_pixels(pixels: Any) -> Image:
    from PIL import Image

    return Image.fromarray(pixels).convert("RGB")


def _from_file(file: Path) -> Image:
    return _decode(file, file)


def _from_bytes(data: bytes, source: str) -> Image:
    return _decode(io.BytesIO(data), source)


def _eight_bits(image: Image) -> Image:
    """Grey of 16 bits as grey of 8, which `convert` would clip at 255; other pictures as they are.

    Pillow opens some of them in 32-bit integers (mode "I"), with values up to 65,535 too.
    """
    import numpy as np
    from PIL import Image

    if not image.mode.startswith("I"):
        return image
    values = np.asarray(image).astype("int64")
    return Image.fromarray((values.clip(0, 65535) // 257).astype("uint8"))


def _decode(stream: Any, source: object) -> Image:
    from PIL import Image

    try:
        with Image.open(stream) as image:
            return _eight_bits(image).convert("RGB")
    except (OSError, ValueError, SyntaxError) as error:  # Pillow raises the last for a damaged PNG
        raise DataError(f"{source} is no picture that can be read: {first_line(error)}") from error
