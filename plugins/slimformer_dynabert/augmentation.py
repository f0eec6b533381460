"""Data augmentation as DynaBERT uses it, TinyBERT's (arXiv 1909.10351, algorithm 1): texts with some words replaced.

A word that is one piece of the masked LM is replaced by what the model predicts in its place, any other by its nearest
neighbours among word vectors. The label stays.
"""

from __future__ import annotations

import gzip
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from slimformer.errors import CheckpointError, DataError, first_line
from slimformer_dynabert.stop_words import STOP_WORDS
from slimformer_text.text import load_tokenizer

if TYPE_CHECKING:
    import numpy as np

VECTORS_READ = 100_000
"""Lines that are read of a file of word vectors, which begin with the most frequent words."""

LONGEST = 512
"""Tokens of a text that the masked LM reads; words beyond them stay."""


@dataclass(frozen=True)
class Augmentation:
    """How texts are varied.

    repeats: attempts for each text; what equals the text or an earlier variant is left out.
    probability: with which a word is replaced. candidates: a replacement is drawn from so many words.
    beside_original: the masked LM reads the masked text beside the untouched one, as in TinyBERT's released code; otherwise
        the masked text alone, as in the paper.
    """

    repeats: int
    probability: float = 0.4
    candidates: int = 15
    beside_original: bool = False
    seed: int = 0


@dataclass(frozen=True)
class Word:
    """A word that may be replaced, `text[start:end]`, and where its pieces stand among the text's tokens."""

    start: int
    end: int
    pieces: tuple[int, ...]


@dataclass(frozen=True)
class Choice:
    """A word and what may stand in its place."""

    word: Word
    candidates: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class WordVectors:
    """Words with unit vectors. matrix: Float[np.ndarray, "words size"]."""

    words: Sequence[str]
    matrix: np.ndarray

    @staticmethod
    def read(path: Path) -> WordVectors:
        """A text file of a word and its numbers in each line (GloVe, fastText; may be gzipped), the most frequent words first.

        Raises: DataError for a file that is missing or something else.
        """
        import numpy as np

        words, rows = [], []
        try:
            with (gzip.open if path.suffix == ".gz" else open)(path, "rt", encoding="utf-8") as lines:
                for _, line in zip(range(VECTORS_READ), lines, strict=False):
                    word, *numbers = line.rstrip().split(" ")
                    if len(numbers) > 1:  # fastText begins with a line of two counts
                        words.append(word)
                        rows.append(np.array(numbers, dtype=np.float32))
            matrix = np.stack(rows)
        except (OSError, ValueError) as error:
            raise DataError(
                f"no word vectors can be read from {path} ({first_line(error)}): give a text file with a word and its numbers in "
                "each line, as GloVe's"
            ) from None
        return WordVectors(words, matrix / np.linalg.norm(matrix, axis=1, keepdims=True).clip(min=1e-12))

    @cached_property
    def _places(self) -> Mapping[str, int]:
        return {word: place for place, word in reversed(list(enumerate(self.words)))}

    def neighbours(self, word: str, count: int) -> tuple[str, ...]:
        """The words nearest to a word by cosine, nearest first; none for an unknown word."""
        place = self._places.get(word, self._places.get(word.lower()))
        if place is None:
            return ()
        order = (-(self.matrix @ self.matrix[place])).argsort(kind="stable")
        return tuple(self.words[other] for other in order[: count + 1] if other != place)[:count]


@dataclass(frozen=True, eq=False)
class MaskedLM:
    """A masked language model with its tokenizer, both of one checkpoint."""

    model: Any
    tokenizer: Any
    longest: int

    @staticmethod
    def load(checkpoint: str) -> MaskedLM:
        """Raises: CheckpointError where the checkpoint has no masked-LM head or no fast tokenizer with a mask."""
        from transformers import AutoModelForMaskedLM

        try:
            model, report = AutoModelForMaskedLM.from_pretrained(
                checkpoint, dtype=torch.float32, output_loading_info=True, trust_remote_code=False
            )
        except Exception as error:  # safetensors, pickle, json and the hub each have their own
            raise CheckpointError(
                f"cannot load a masked LM from {checkpoint!r}: {first_line(error)}; give one with --masked-lm, such as "
                "bert-base-uncased"
            ) from error
        new = sorted({*report["missing_keys"], *(entry[0] for entry in report["mismatched_keys"])})
        if new:
            raise CheckpointError(
                f"{checkpoint!r} has no trained masked-LM head ({new[0]} is missing): give a masked LM with --masked-lm, such as "
                "bert-base-uncased"
            )
        tokenizer = load_tokenizer(checkpoint)
        if tokenizer.mask_token_id is None or not tokenizer.is_fast:
            raise CheckpointError(f"the tokenizer of {checkpoint!r} has no mask token or no offsets: give another --masked-lm")
        positions = getattr(model.config, "max_position_embeddings", LONGEST) - 2  # RoBERTa's first two are no tokens'
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        return MaskedLM(model.eval().to(device), tokenizer, min(LONGEST, positions, tokenizer.model_max_length))

    @cached_property
    def whole_words(self) -> Mapping[int, str]:
        """The pieces that are words by themselves, by id: letters only, and what the tokenizer makes of the word alone."""
        ids = [i for i in sorted(self.tokenizer.get_vocab().values()) if i not in self.tokenizer.all_special_ids]
        texts = [self.tokenizer.decode([i]).strip() for i in ids]
        again = self.tokenizer([f" {text}" for text in texts], add_special_tokens=False)["input_ids"]
        return {i: text for i, text, found in zip(ids, texts, again, strict=True) if text.isalpha() and found == [i]}

    @cached_property
    def _not_a_word(self) -> Tensor:
        """Float[Tensor, "vocabulary"]: minus infinity at every piece that is no word by itself, else 0."""
        mask = torch.full((self.model.get_output_embeddings().weight.shape[0],), float("-inf"))
        mask[list(self.whole_words)] = 0.0
        return mask.to(self.model.device)

    def words(self, text: str) -> list[Word]:
        """The words of a text that may be replaced: of letters only, no stop words, within the model's length."""
        encoded = self.tokenizer(text, truncation=True, max_length=self.longest, return_offsets_mapping=True)
        offsets = encoded["offset_mapping"]
        pieces: dict[int, list[int]] = {}
        for position, number in enumerate(encoded.word_ids()):
            if number is not None and any(map(str.isalpha, text[slice(*offsets[position])])):  # some count "," to the word
                pieces.setdefault(number, []).append(position)
        found = (_trimmed(text, offsets[at[0]][0], offsets[at[-1]][1], tuple(at)) for at in pieces.values())
        return [word for word in found if _may_be_replaced(text[word.start : word.end])]

    def masked(self, text: str, word: Word, beside_original: bool) -> dict[str, Any]:
        """The tokens of a text with one word masked."""
        parts = (text, text) if beside_original else (text,)
        tokens = dict(self.tokenizer(*parts, truncation="only_second" if beside_original else True, max_length=self.longest))
        ids = list(tokens["input_ids"])
        ids[word.pieces[0]] = self.tokenizer.mask_token_id
        return tokens | {"input_ids": ids}

    def predict(self, inputs: Sequence[Mapping[str, Any]], count: int, batch_size: int) -> list[tuple[str, ...]]:
        """For each input with one mask: the most likely words there, most likely first."""
        order = sorted(range(len(inputs)), key=lambda i: len(inputs[i]["input_ids"]))
        found: dict[int, tuple[str, ...]] = {}
        for start in range(0, len(order), batch_size):
            chosen = order[start : start + batch_size]
            batch = self.tokenizer.pad([dict(inputs[i]) for i in chosen], return_tensors="pt").to(self.model.device)
            with torch.no_grad():
                logits = self.model(**batch).logits
            at = (batch["input_ids"] == self.tokenizer.mask_token_id).int().argmax(1)
            likely = (logits[torch.arange(len(chosen)), at] + self._not_a_word).topk(min(count, len(self.whole_words))).indices
            found |= {i: tuple(self.whole_words[j] for j in row) for i, row in zip(chosen, likely.tolist(), strict=True)}
        return [found[i] for i in range(len(inputs))]


def _trimmed(text: str, start: int, end: int, pieces: tuple[int, ...]) -> Word:
    """Some tokenizers count the space before a word to it."""
    return Word(start + len(text[start:end]) - len(text[start:end].lstrip()), end, pieces)


def _may_be_replaced(word: str) -> bool:
    return word.isalpha() and word.lower() not in STOP_WORDS


def choices(
    texts: Sequence[str], lm: MaskedLM, vectors: WordVectors | None, how: Augmentation, batch: int
) -> list[list[Choice]]:
    """For each text: its words with their candidates; words without any are left out."""
    words = [(number, word) for number, text in enumerate(texts) for word in lm.words(text)]
    single = [(number, word) for number, word in words if len(word.pieces) == 1]
    inputs = [lm.masked(texts[number], word, how.beside_original) for number, word in single]
    predicted = dict(zip(single, lm.predict(inputs, how.candidates, batch), strict=True))
    found: list[list[Choice]] = [[] for _ in texts]
    for number, word in words:
        written = texts[number][word.start : word.end]
        near = vectors.neighbours(written, how.candidates) if vectors and len(word.pieces) > 1 else ()
        candidates = predicted.get((number, word), near)
        if candidates:
            found[number].append(Choice(word, tuple(map(str.title, candidates)) if written.istitle() else candidates))
    return found


def variants(text: str, choices: Sequence[Choice], how: Augmentation, draw: random.Random) -> list[str]:
    """Different texts with some of the words replaced, none of them the text itself."""
    found = {text: None}
    for _ in range(how.repeats):
        made, end = [], 0
        for choice in choices:
            candidate, chance = draw.choice(choice.candidates), draw.random()
            if chance < how.probability:
                made += [text[end : choice.word.start], candidate]
                end = choice.word.end
        found["".join((*made, text[end:]))] = None
    return list(found)[1:]
