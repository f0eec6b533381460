"""Exact match and F1 as SQuAD's official scripts count them, and the best answer span of a window's logits."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

ARTICLES = re.compile(r"\b(a|an|the)\b")
PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalise(answer: str) -> str:
    """Lower case, no punctuation, no articles, single spaces."""
    return " ".join(ARTICLES.sub(" ", answer.lower().translate(PUNCTUATION)).split())


def exact_match(predicted: str, answers: Sequence[str]) -> float:
    """1 where the prediction equals one of the answers once both are normalised, else 0."""
    return float(any(normalise(predicted) == normalise(answer) for answer in answers))


def f1(predicted: str, answers: Sequence[str], no_answer: bool = False) -> float:
    """The best F1 of the prediction's words against an answer's.

    no_answer: as version 2's script, for which an empty prediction agrees with an empty answer.
    """
    return max(_f1(normalise(predicted).split(), normalise(answer).split(), no_answer) for answer in answers)


def _f1(predicted: Sequence[str], answer: Sequence[str], no_answer: bool) -> float:
    if no_answer and not (predicted and answer):
        return float(predicted == answer)
    common = (Counter(predicted) & Counter(answer)).total()
    if common == 0:
        return 0.0
    precision, recall = common / len(predicted), common / len(answer)
    return 2 * precision * recall / (precision + recall)


def gold_answers(answers: Sequence[str], no_answer: bool) -> Sequence[str]:
    """The answers that count; version 2's script leaves out those that normalise to nothing and reads none as ""."""
    return [answer for answer in answers if normalise(answer)] or [""] if no_answer else answers


@dataclass(frozen=True)
class Span:
    """A span of tokens of a window, both ends within it, and the sum of its two logits."""

    first: int
    last: int
    logit: float


def best_span(start: np.ndarray, end: np.ndarray, longest: int) -> Span:
    """The span of at most `longest` tokens whose start and end logits have the greatest sum.

    start, end: Float[Array, "tokens"] of the tokens that an answer may have.
    """
    import numpy as np

    padded = np.concatenate([end, np.full(longest - 1, -np.inf)])
    sums = start[:, None] + np.lib.stride_tricks.sliding_window_view(padded, longest)
    first, more = np.unravel_index(int(sums.argmax()), sums.shape)
    return Span(int(first), int(first + more), float(sums[first, more]))
