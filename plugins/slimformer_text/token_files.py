"""The user's own token classification data: named entities, parts of speech and the like."""

from __future__ import annotations

import gzip
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from slimformer.checkpoints import load_tokenizer, load_with_head
from slimformer.errors import DataError
from slimformer.registry import Count, Name, Positive, Seed
from slimformer.supernet import Batch
from slimformer.tasks import TASKS, Example, Logits, TaskData, at_most, column, data_files, ending, read, split_off
from slimformer.tasks.head import in_order_of
from slimformer_text.entities import OUTSIDE, entity_scores

if TYPE_CHECKING:
    from torch import nn

IGNORED = -100
"""The label of a token that is not judged: special tokens, and all pieces of a word but the first."""
DOCUMENT = "-DOCSTART-"


@dataclass(frozen=True)
class Sentence:
    """Words and the tag of each."""

    words: tuple[str, ...]
    tags: tuple[str, ...]


@TASKS.register("token_files")
@dataclass(frozen=True)
class TokenFiles:
    """Your own words and tags (named entities, parts of speech), from CoNLL files or json, jsonl, parquet tables.

    A file of another ending than a table's is read as CoNLL's: a word a line, its first field the word and its last the tag,
    an empty line between sentences. A word is tagged by its first piece.

    train, validation: a file, or a folder of tables; without validation, a tenth of train is split off.
    tokens, tags: columns of a table, each a list. tag_names: the tags' names, where a table has numbers for them.
    metric: "f1" over entities (tags like B-PER, I-PER, O), or "accuracy" over words for other tags.
    max_length: tokens per example; words beyond it count as tagged O.
    max_train, max_eval: a random part of this many sentences; 0 for all.
    calibration_size: sentences held out of train, at most a tenth of it.
    """

    train: Name
    validation: str = ""
    tokens: Name = "tokens"
    tags: Name = "tags"
    tag_names: tuple[str, ...] = ()
    metric: Literal["f1", "accuracy"] = "f1"
    max_length: Positive = 128
    max_train: Count = 0
    max_eval: Count = 0
    calibration_size: Count = 512
    seed: Seed = 0

    def load_model(self, checkpoint: str, attention: str) -> nn.Module:
        names = in_order_of(checkpoint, self._names(self._sentences(self.train)))
        config = {"num_labels": len(names), "id2label": dict(enumerate(names)), "label2id": {n: i for i, n in enumerate(names)}}
        return load_with_head("AutoModelForTokenClassification", checkpoint, attention, config)

    def load(self, checkpoint: str) -> TaskData:
        tokenizer = load_tokenizer(checkpoint, pads=True)
        everything = self._sentences(self.train)
        names = in_order_of(checkpoint, self._names(everything))
        if self.validation:
            train, judged = everything, self._sentences(self.validation)
        else:
            judged, train = split_off(everything, max(1, len(everything) // 10), self.seed)
        calibration, rest = split_off(train, min(self.calibration_size, len(train) // 10), self.seed)
        splits = {
            "train": at_most(rest, self.max_train, self.seed),
            "calibration": calibration,
            "validation": at_most(judged, self.max_eval, self.seed),
        }
        numbers = {name: number for number, name in enumerate(names)}
        for sentences, source in ((everything, self.train), (judged, self.validation or self.train)):
            strange = next((tag for s in sentences for tag in s.tags if tag not in numbers), None)
            if strange is not None:
                raise DataError(f"{source} has the tag {strange!r}, which is not one of: {', '.join(names)}")
        cut = {name: [_example(tokenizer, s, numbers, self.max_length) for s in part] for name, part in splits.items()}
        return TaskData(
            train=cut["train"],
            calibration=cut["calibration"],
            evaluation={"validation": cut["validation"]},
            collate=Collate(tokenizer),
            score=Score(splits, cut, names, self.metric),
            metric=self.metric,
            processor=tokenizer,
        )

    def _names(self, sentences: Sequence[Sentence]) -> tuple[str, ...]:
        """The training data's tags, O first, the others by the alphabet; or those that the recipe names."""
        if self.tag_names:
            return self.tag_names
        found = {tag for sentence in sentences for tag in sentence.tags}
        if len(found) < 2:
            raise DataError(f"{self.train} has one tag only, {', '.join(found)!r}; a classifier needs two or more")
        return tuple(sorted(found, key=lambda tag: (tag != OUTSIDE, tag)))

    def _sentences(self, path: str) -> list[Sentence]:
        place = Path(path)
        is_conll = place.is_file() and ending(place) not in (".json", ".json.gz", ".jsonl", ".jsonl.gz", ".parquet")
        sentences = _read_conll(place) if is_conll else self._read_table(place)
        if not sentences:
            raise DataError(f"{path} has no sentence with a word and a tag")
        return sentences

    def _read_table(self, place: Path) -> list[Sentence]:
        table = read(data_files(place))
        sentences = []
        for number, (words, tags) in enumerate(
            zip(column(table, (self.tokens,), place), column(table, (self.tags,), place), strict=True), start=1
        ):
            if not isinstance(words, list) or not isinstance(tags, list) or len(words) != len(tags):
                raise DataError(f"row {number} of {place}: {self.tokens!r} and {self.tags!r} must be lists of the same length")
            if words:
                sentences.append(Sentence(tuple(map(str, words)), tuple(self._name(tag, place) for tag in tags)))
        return sentences

    def _name(self, tag: Any, place: Path) -> str:
        if isinstance(tag, str):
            return tag
        if not isinstance(tag, int) or not 0 <= tag < len(self.tag_names):
            raise DataError(
                f'{place} has the number {tag!r} for a tag: write task.tag_names = ["O", "B-PER", ...] in their order'
            )
        return self.tag_names[tag]


def _read_conll(file: Path) -> list[Sentence]:
    """The sentences of a file with a word a line; lines that mark a document are left out.

    Raises: DataError for a line without a tag.
    """
    try:
        data = file.read_bytes()
        text = (gzip.decompress(data) if file.suffix == ".gz" else data).decode("utf-8-sig")
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read {file} as a CoNLL file of text: {error}") from error
    sentences: list[Sentence] = []
    rows: list[list[str]] = []
    for number, line in enumerate([*text.splitlines(), ""], start=1):
        fields = line.split()
        if fields and fields[0] != DOCUMENT:
            if len(fields) == 1:
                raise DataError(f"{file}:{number}: a word without a tag; write WORD TAG, and an empty line between sentences")
            rows.append(fields)
        elif rows:
            sentences.append(Sentence(tuple(row[0] for row in rows), tuple(row[-1] for row in rows)))
            rows = []
    return sentences


def _example(tokenizer: Any, sentence: Sentence, numbers: Mapping[str, int], max_length: int) -> Example:
    """The sentence's tokens; the first piece of each word has its tag's number, every other token `IGNORED`."""
    encoded = tokenizer(list(sentence.words), is_split_into_words=True, truncation=True, max_length=max_length)
    labels, seen = [], set()
    for word in encoded.word_ids():
        labels.append(IGNORED if word is None or word in seen else numbers[sentence.tags[word]])
        seen.add(word)
    return dict(encoded) | {"labels": labels, "words": [word for word in dict.fromkeys(encoded.word_ids()) if word is not None]}


@dataclass(frozen=True)
class Collate:
    """Pads the sentences of a batch to the longest of them; padding is not judged."""

    tokenizer: Any

    def __call__(self, examples: Sequence[Example]) -> Batch:
        import torch

        inputs = [{key: value for key, value in e.items() if key not in ("labels", "words")} for e in examples]
        batch = self.tokenizer.pad(inputs, return_tensors="pt")
        labels = torch.full_like(batch["input_ids"], IGNORED)
        for row, example in enumerate(examples):
            size = len(example["labels"])
            at = slice(0, size) if self.tokenizer.padding_side == "right" else slice(labels.shape[1] - size, None)
            labels[row, at] = torch.tensor(example["labels"])
        return {**batch, "labels": labels}


@dataclass(frozen=True)
class Score:
    """Accuracy over words, and F1, precision and recall over entities if that is the metric, in percent."""

    sentences: Mapping[str, Sequence[Sentence]]
    examples: Mapping[str, Sequence[Example]]
    names: tuple[str, ...]
    metric: str

    def __call__(self, split: str, logits: Logits) -> Mapping[str, float]:
        gold = [sentence.tags for sentence in self.sentences[split]]
        predicted = self.tags(split, logits)
        right = sum(a == b for one, other in zip(gold, predicted, strict=True) for a, b in zip(one, other, strict=True))
        scores = {"accuracy": right / sum(map(len, gold))}
        if self.metric == "f1":
            scores = entity_scores(gold, predicted) | scores
        return {name: 100 * value for name, value in scores.items()}

    def tags(self, split: str, logits: Logits) -> list[list[str]]:
        """The predicted tag of each word.

        logits: Float[Array, "sentences tokens tags"]; what stands beyond a sentence's tokens is not read.
        """
        found = []
        for sentence, example, rows in zip(self.sentences[split], self.examples[split], logits[0], strict=True):
            tags = [OUTSIDE] * len(sentence.words)
            judged = [index for index, label in enumerate(example["labels"]) if label != IGNORED]
            for word, index in zip(example["words"], judged, strict=True):
                tags[word] = self.names[int(rows[index].argmax())]
            found.append(tags)
        return found
