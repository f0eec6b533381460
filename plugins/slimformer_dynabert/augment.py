"""Varies the training rows of a task and writes the variants to a file; an interrupted job goes on where it stopped."""

from __future__ import annotations

import hashlib
import json
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from slimformer.errors import DataError
from slimformer.files import append_line, read_lines, write_text, writing
from slimformer_dynabert.augmentation import Augmentation, MaskedLM, WordVectors, choices, variants
from slimformer_text.text import VARIANT_COLUMNS, Rows

CHUNK = 16
"""Rows that are varied together and written at once; what is left of an interrupted chunk is thrown away."""


class Progress(Protocol):
    def begin(self, stage: str, done: int, total: int) -> None: ...
    def advance(self, stage: str, step: int, logs: dict[str, float]) -> None: ...
    def end(self, stage: str) -> None: ...


@dataclass(frozen=True)
class Job:
    """What is varied, by what, and how.

    rows: a task's training rows; learnt: the numbers of those that are trained on, the only ones that are varied.
    masked_lm: a checkpoint. vectors: a file of word vectors, None for none. batch_size: inputs of the masked LM at a time.
    """

    rows: Rows
    learnt: Sequence[int]
    masked_lm: str
    vectors: Path | None
    how: Augmentation
    batch_size: int

    @property
    def settings(self) -> dict[str, Any]:
        """What a job that goes on must have in common with the one that began."""
        data = hashlib.sha256(json.dumps([self.rows.texts, self.rows.labels, list(self.learnt)]).encode()).hexdigest()
        files = {"masked_lm": self.masked_lm, "vectors": str(self.vectors or "")}
        return {"rows": data, "batch_size": self.batch_size} | files | asdict(self.how)


def augment(job: Job, to: Path, progress: Progress) -> dict[str, int]:
    """Write the variants of every learnt row, one JSON object a line, in the rows' order: source, texts, label.

    Of a pair one text is varied at a time. Law: the file is a function of the job; interrupted at any moment and started
    again, it has the same bytes.

    Returns: how many rows there were and how many were written, and of the words that may be replaced how many got their
    candidates from the masked LM, how many from the vectors, and how many have none.
    Raises: DataError where the file exists or a job with other settings has begun it; CheckpointError.
    """
    if to.exists():
        raise DataError(f"{to} exists: remove it, or give another file with --to")
    begun = to.with_name(f".{to.name}.begun")
    done = _done(begun, job.settings)
    lm, vectors = MaskedLM.load(job.masked_lm), WordVectors.read(job.vectors) if job.vectors else None
    if not done:
        with writing(begun):
            begun.parent.mkdir(parents=True, exist_ok=True)
            write_text(begun, json.dumps(job.settings) + "\n")
    progress.begin("augment", min(len(job.learnt), len(done) * CHUNK), len(job.learnt))
    try:
        for start in range(len(done) * CHUNK, len(job.learnt), CHUNK):
            chunk = _vary(job, job.learnt[start : start + CHUNK], lm, vectors)
            with writing(begun):
                append_line(begun, chunk)
            progress.advance("augment", min(len(job.learnt), start + CHUNK), {})
            done.append(chunk)
    finally:
        progress.end("augment")
    lines = [json.dumps(row) for chunk in done for row in chunk["rows"]]
    with writing(to):
        write_text(to, "".join(f"{line}\n" for line in lines))
    begun.unlink()
    words = sum((Counter(chunk["words"]) for chunk in done), Counter())
    return {"rows": len(job.learnt), "written": len(lines)} | {origin: words[origin] for origin in ORIGINS}


ORIGINS = ("masked_lm", "vectors", "none")
"""Where a word's candidates can come from."""


def _done(begun: Path, settings: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The chunks that are done already; the file's first line says by which settings they were made."""
    lines = read_lines(begun)
    if lines and lines[0] != settings:
        changed = ", ".join(name for name, value in settings.items() if lines[0].get(name) != value)
        raise DataError(f"{begun} was begun with other settings ({changed}): remove it, or give another file with --to")
    return lines[1:]


def _vary(job: Job, numbers: Sequence[int], lm: MaskedLM, vectors: WordVectors | None) -> dict[str, Any]:
    """The variants of some rows, and where their words' candidates come from."""
    parts = [(number, part) for number in numbers for part in range(len(job.rows.texts[number]))]
    texts = [job.rows.texts[number][part] for number, part in parts]
    found = choices(texts, lm, vectors, job.how, job.batch_size)
    rows, words = [], Counter[str]()
    for (number, part), text, chosen in zip(parts, texts, found, strict=True):
        words.update("masked_lm" if len(choice.word.pieces) == 1 else "vectors" for choice in chosen)
        words["none"] += len(lm.words(text)) - len(chosen)
        for variant in variants(text, chosen, job.how, random.Random(f"{job.how.seed} {number} {part}")):
            whole = [variant if place == part else other for place, other in enumerate(job.rows.texts[number])]
            rows.append(dict(zip(VARIANT_COLUMNS, (number, whole, job.rows.labels[number]), strict=True)))
    return {"rows": rows, "words": dict(words)}
