"""Extractive question answering: SQuAD 1.1 and 2.0 by sliding windows, from the hub or from local files."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from slimformer.checkpoints import load_tokenizer, load_with_head
from slimformer.errors import DataError, first_line
from slimformer.registry import Count, Positive, Seed
from slimformer.supernet import Batch
from slimformer.tasks import TASKS, Example, Logits, TaskData, at_most, split_off
from slimformer_text.squad_score import best_span, exact_match, f1, gold_answers

if TYPE_CHECKING:
    from torch import nn

HUB = {"1.1": "rajpurkar/squad", "2.0": "rajpurkar/squad_v2"}
SPLITS = {"train": ("train",), "validation": ("dev", "validation")}
"""Split -> how the name of its file begins."""
QUESTION_TOKENS = 64
"""Longer questions are cut, as in BERT's script."""


@dataclass(frozen=True)
class Question:
    """A question about a context; answers and where they begin in it, none where it cannot be answered."""

    question: str
    context: str
    answers: tuple[str, ...]
    starts: tuple[int, ...]


@dataclass(frozen=True)
class Window:
    """The tokens of a context that one window holds.

    question: the position of its question in the split. first: the position of its first context token in the window.
    offsets: the characters of each of its context tokens.
    """

    question: int
    first: int
    offsets: Sequence[tuple[int, int]]


@TASKS.register("squad")
@dataclass(frozen=True)
class Squad:
    """Extractive question answering as in SQuAD: EM and F1 over questions, long contexts by sliding windows.

    path: a folder with train*.json and dev*.json (or .json.gz) in SQuAD's form; empty for the hub.
    version: "2.0" has questions without an answer.
    max_length: tokens of a window, question included; stride: tokens that two windows of a context share.
    max_answer: tokens of the longest answer.
    null_threshold: version 2.0 gives no answer where the logits of "no answer" exceed the best span's by more than this.
    max_train, max_eval: a random part of this many questions; 0 for all.
    calibration_size: questions held out of train, at most a tenth of it.
    """

    path: str = ""
    version: Literal["1.1", "2.0"] = "1.1"
    max_length: Positive = 384
    stride: Count = 128
    max_answer: Positive = 30
    null_threshold: float = 0.0
    max_train: Count = 0
    max_eval: Count = 0
    calibration_size: Count = 512
    seed: Seed = 0

    def load_model(self, checkpoint: str, attention: str) -> nn.Module:
        return load_with_head("AutoModelForQuestionAnswering", checkpoint, attention)

    def load(self, checkpoint: str) -> TaskData:
        tokenizer = load_tokenizer(checkpoint, pads=True)
        if not 0 <= self.stride < self.max_length - QUESTION_TOKENS - 3:
            raise DataError(
                f"stride {self.stride} leaves windows of {self.max_length} tokens no room to move: a question takes up to "
                f"{QUESTION_TOKENS + 3}, so set task.stride below {self.max_length - QUESTION_TOKENS - 3} or raise max_length"
            )
        splits = self._local() if self.path else self._hub()
        calibration, rest = split_off(splits["train"], min(self.calibration_size, len(splits["train"]) // 10), self.seed)
        questions = {
            "train": at_most(rest, self.max_train, self.seed),
            "calibration": calibration,
            "validation": at_most(splits["validation"], self.max_eval, self.seed),
        }
        cut = {name: list(self._windows(tokenizer, part)) for name, part in questions.items()}
        examples = {name: [example for example, _ in pairs] for name, pairs in cut.items()}
        windows = {name: [window for _, window in pairs] for name, pairs in cut.items()}
        return TaskData(
            train=examples["train"],
            calibration=examples["calibration"],
            evaluation={"validation": examples["validation"]},
            collate=Collate(tokenizer),
            score=Score(questions, windows, self),
            metric="f1",
            processor=tokenizer,
        )

    def _local(self) -> dict[str, list[Question]]:
        folder = Path(self.path)
        if not folder.is_dir():
            raise DataError(f"there is no folder {folder}; give the folder that holds train-v{self.version}.json")
        return {name: self._checked(_read(_find(folder, stems)), _find(folder, stems)) for name, stems in SPLITS.items()}

    def _hub(self) -> dict[str, list[Question]]:
        from datasets import load_dataset

        try:
            loaded = load_dataset(HUB[self.version])
        except Exception as error:  # the network, the hub and the cache each have their own
            raise DataError(
                f"cannot load {HUB[self.version]} from the hub: {first_line(error)}. Give a folder with SQuAD's json files "
                "with `--set task.path=FOLDER`"
            ) from error
        return {name: self._checked([_hub_row(row) for row in loaded[name]], HUB[self.version]) for name in SPLITS}

    def _checked(self, questions: list[Question], source: object) -> list[Question]:
        if not questions:
            raise DataError(f"{source} has no question")
        if self.version == "1.1" and not all(q.answers for q in questions):
            raise DataError(f'{source} has questions without an answer: write task.version = "2.0"')
        return questions

    def _windows(self, tokenizer: Any, questions: Sequence[Question]) -> Iterator[tuple[Example, Window]]:
        """Every window of every question, with its inputs and the positions of the first answer (0, 0 where it is not in it)."""
        if not questions:
            return
        encoded = tokenizer(
            [_shorten(tokenizer, q.question) for q in questions],
            [q.context for q in questions],
            truncation="only_second",
            max_length=self.max_length,
            stride=self.stride,
            return_overflowing_tokens=True,
            return_offsets_mapping=True,
        )
        owners, offsets = encoded.pop("overflow_to_sample_mapping"), encoded.pop("offset_mapping")
        for index, owner in enumerate(owners):
            places = [i for i, part in enumerate(encoded.sequence_ids(index)) if part == 1]
            window = Window(owner, places[0] if places else 0, [offsets[index][i] for i in places])
            first, last = _positions(questions[owner], window)
            inputs = {name: column[index] for name, column in encoded.items()}
            yield inputs | {"start_positions": first, "end_positions": last}, window


def _shorten(tokenizer: Any, question: str) -> str:
    """A question's text, cut behind its last token where it has more than `QUESTION_TOKENS`."""
    offsets = tokenizer(question.strip(), add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
    return question.strip() if len(offsets) <= QUESTION_TOKENS else question.strip()[: offsets[QUESTION_TOKENS - 1][1]]


def _positions(question: Question, window: Window) -> tuple[int, int]:
    """The window's tokens in which the first answer begins and ends; (0, 0), the first token, where it is not whole in it."""
    if not question.answers or not window.offsets:
        return 0, 0
    begin, finish = question.starts[0], question.starts[0] + len(question.answers[0])
    starts = [i for i, (first, last) in enumerate(window.offsets) if first <= begin < last]
    ends = [i for i, (first, last) in enumerate(window.offsets) if first < finish <= last]
    return (window.first + starts[0], window.first + ends[-1]) if starts and ends else (0, 0)


def _find(folder: Path, stems: Sequence[str]) -> Path:
    files = [f for f in sorted(folder.iterdir()) if f.name.startswith(tuple(stems)) and f.name.endswith((".json", ".json.gz"))]
    if not files:
        raise DataError(f"{folder} has no file {stems[0]}*.json or {stems[0]}*.json.gz in SQuAD's form")
    return files[0]


def _read(file: Path) -> list[Question]:
    """The questions of a file in SQuAD's form."""
    try:
        data = file.read_bytes()
        articles = json.loads(gzip.decompress(data) if file.suffix == ".gz" else data)["data"]
        return [
            Question(
                asked["question"],
                paragraph["context"],
                tuple(answer["text"] for answer in _answers(asked)),
                tuple(int(answer["answer_start"]) for answer in _answers(asked)),
            )
            for article in articles
            for paragraph in article["paragraphs"]
            for asked in paragraph["qas"]
        ]
    except (OSError, EOFError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{file} is not in SQuAD's form (data, paragraphs, qas, answers): {first_line(error)}") from error


def _answers(asked: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    return () if asked.get("is_impossible") else asked["answers"]


def _hub_row(row: Mapping[str, Any]) -> Question:
    answers = row["answers"]
    return Question(row["question"], row["context"], tuple(answers["text"]), tuple(answers["answer_start"]))


@dataclass(frozen=True)
class Collate:
    """Pads the windows of a batch to the longest of them."""

    tokenizer: Any

    def __call__(self, examples: Sequence[Example]) -> Batch:
        import torch

        labels = ("start_positions", "end_positions")
        inputs = [{key: value for key, value in example.items() if key not in labels} for example in examples]
        positions = {name: torch.tensor([example[name] for example in examples]) for name in labels}
        return {**self.tokenizer.pad(inputs, return_tensors="pt"), **positions}


@dataclass(frozen=True)
class Score:
    """EM and F1 over a split's questions, in percent; a question's answer is the best span of all its windows."""

    questions: Mapping[str, Sequence[Question]]
    windows: Mapping[str, Sequence[Window]]
    task: Squad

    def __call__(self, split: str, logits: Logits) -> Mapping[str, float]:
        asked, no_answer = self.questions[split], self.task.version == "2.0"
        if not asked:
            raise DataError(f"the split {split!r} has no questions")
        golds = [gold_answers(question.answers, no_answer) for question in asked]
        found = list(zip(self.answers(split, logits), golds, strict=True))
        scores: dict[str, Callable[[str, Sequence[str]], float]] = {
            "f1": lambda answer, gold: f1(answer, gold, no_answer),
            "exact_match": exact_match,
        }
        return {name: 100 * sum(rule(*pair) for pair in found) / len(found) for name, rule in scores.items()}

    def answers(self, split: str, logits: Logits) -> list[str]:
        """The predicted answer of each question, "" for none.

        logits: start and end logits, each Float[Array, "windows tokens"]; what stands beyond a window's tokens is not read.
        """
        asked = self.questions[split]
        best, null = [float("-inf")] * len(asked), [float("inf")] * len(asked)
        answers = [""] * len(asked)
        for window, start, end in zip(self.windows[split], *logits, strict=True):
            null[window.question] = min(null[window.question], float(start[0] + end[0]))
            if not window.offsets:
                continue
            inside = slice(window.first, window.first + len(window.offsets))
            span = best_span(start[inside], end[inside], self.task.max_answer)
            if span.logit > best[window.question]:
                best[window.question] = span.logit
                begin, finish = window.offsets[span.first][0], window.offsets[span.last][1]
                answers[window.question] = asked[window.question].context[begin:finish]
        if self.task.version == "1.1":
            return answers
        return [
            "" if nothing - span > self.task.null_threshold else answer
            for answer, span, nothing in zip(answers, best, null, strict=True)
        ]
