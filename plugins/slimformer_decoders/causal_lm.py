"""Language modelling: text packed into windows of equal length, scored by perplexity."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from slimformer.checkpoints import load_model, load_tokenizer, nowhere, read_config
from slimformer.errors import DataError
from slimformer.supernet import Batch
from slimformer.tasks import TASKS, Example, Logits, Measure, TaskData, at_most, split_off
from slimformer_decoders.texts import hub_texts, read_texts

if TYPE_CHECKING:
    from torch import Tensor, nn

IGNORED = -100
"""The label of a token that is not to be predicted: padding, and what another window has predicted already."""
MEASURES = {"perplexity": Measure("per token", lower_is_better=True), "loss": Measure("nats per token", lower_is_better=True)}


@TASKS.register("causal_lm")
@dataclass(frozen=True)
class CausalLM:
    """Text, each token predicted from those before it: plain text files, tables with a column of texts, or the hub.

    The texts are tokenised, put one after another and cut into windows. Perplexity is exp of the mean loss over all predicted
    tokens, in the checkpoint's own tokens: compare models with one tokenizer.

    train, validation, test: a text file (.txt, .md, ...; .gz too), a table, or a folder of such files; without validation and
        test a tenth of the windows of train is split off.
    dataset, subset: a data set of the hub, read where train is empty.
    text: the column of a table that holds the texts. separator: what stands between two texts; empty for the tokenizer's
        end-of-text token.
    window: tokens of an example. context: how many of them come from the window before it, and are predicted there already.
    config: values of the model's configuration to change.
    max_train, max_eval: a random part of this many windows; 0 for all.
    calibration_size: windows held out of train, at most a tenth of it.
    """

    train: str = ""
    validation: str = ""
    test: str = ""
    dataset: str = ""
    subset: str = ""
    text: str = "text"
    separator: str = ""
    window: Annotated[int, Field(ge=2)] = 512
    context: Annotated[int, Field(ge=1)] = 1
    config: dict[str, Any] = field(default_factory=dict)
    max_train: int = 0
    max_eval: int = 0
    calibration_size: int = 64
    seed: int = 0

    def load_model(self, checkpoint: str, attention: str) -> nn.Module:
        config = read_config(checkpoint, changes=self.config)
        self._check_window(config)
        return load_model("AutoModelForCausalLM", checkpoint, attention, config, nowhere)

    def load(self, checkpoint: str) -> TaskData:
        tokenizer = load_tokenizer(checkpoint)
        self._check_window(read_config(checkpoint, changes=self.config))
        splits = {name: self._windows(tokenizer, texts, name) for name, texts in self._texts().items()}
        train = splits.pop("train")
        if not splits:
            splits["validation"], train = split_off(train, max(1, len(train) // 10), self.seed)
        calibration, rest = split_off(train, min(self.calibration_size, len(train) // 10), self.seed)
        if not rest:
            raise DataError(f"the text fills one window of {self.window} tokens: give a longer one or a smaller task.window")
        return TaskData(
            train=at_most(rest, self.max_train, self.seed),
            calibration=calibration,
            evaluation={name: at_most(split, self.max_eval, self.seed) for name, split in splits.items()},
            collate=collate,
            score=score,
            metric="perplexity",
            processor=tokenizer,
            measures=MEASURES,
            keep=token_losses,
        )

    def _check_window(self, config: Any) -> None:
        longest = getattr(config, "max_position_embeddings", self.window)
        if not self.context < self.window <= longest:
            raise DataError(
                f"task.window {self.window} with task.context {self.context}: write a window of at most {longest} tokens, which "
                "is what the model takes, and a smaller context"
            )

    def _texts(self) -> Mapping[str, Sequence[str]]:
        if not self.train and not self.dataset:
            raise DataError("there is no text: give task.train, a text file, a table or a folder; or task.dataset from the hub")
        if not self.train:
            return hub_texts(self.dataset, self.subset, self.text)
        given = {"train": self.train, "validation": self.validation, "test": self.test}
        return {name: read_texts(path, self.text) for name, path in given.items() if path}

    def _windows(self, tokenizer: Any, texts: Sequence[str], split: str) -> list[Example]:
        tokens = self._tokens(tokenizer, texts)
        if len(tokens) < 2:
            raise DataError(f"the text of {split} has {len(tokens)} tokens: give a longer one")
        return cut(tokens, self.window, self.context)

    def _tokens(self, tokenizer: Any, texts: Sequence[str]) -> list[int]:
        if self.separator:
            texts = [self.separator.join(texts)]
        end = [] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id]
        encoded = tokenizer(list(texts), add_special_tokens=False, verbose=False)["input_ids"]
        return [token for index, ids in enumerate(encoded) for token in (*(end if index else ()), *ids)]


def cut(tokens: Sequence[int], window: int, context: int) -> list[Example]:
    """Windows of a text; each token but the very first is predicted in exactly one.

    A window's first `context` tokens are the last ones of the window before it.
    """
    found: list[Example] = []
    for start in range(0, max(1, len(tokens) - context), window - context):
        ids = list(tokens[start : start + window])
        labels = ids if start == 0 else [IGNORED] * context + ids[context:]
        found.append({"input_ids": ids, "labels": labels})
    return found


def collate(examples: Sequence[Example]) -> Batch:
    """Windows side by side, shorter ones padded at the end, where no real token sees the padding."""
    import torch

    size = max(len(example["input_ids"]) for example in examples)

    def padded(rows: Sequence[Sequence[int]], filler: int) -> Tensor:
        return torch.tensor([[*row, *[filler] * (size - len(row))] for row in rows])

    return {
        "input_ids": padded([example["input_ids"] for example in examples], 0),
        "attention_mask": padded([[1] * len(example["input_ids"]) for example in examples], 0),
        "labels": padded([example["labels"] for example in examples], IGNORED),
    }


def token_losses(logits: tuple[Tensor, ...], batch: Batch) -> tuple[Tensor, ...]:
    """The loss of each token, and 1 where it is to be predicted, both Float[Tensor, "batch tokens-1"].

    A whole split's logits over a vocabulary would not fit in memory.
    """
    import torch

    labels = batch["labels"][:, 1:]
    rows = [
        torch.nn.functional.cross_entropy(scores[:-1].float(), row, reduction="none", ignore_index=IGNORED)
        for scores, row in zip(logits[0], labels, strict=True)
    ]
    return torch.stack(rows), (labels != IGNORED).float()


def score(split: str, logits: Logits) -> Mapping[str, float]:
    """Perplexity and mean loss of the tokens that are predicted, from what `token_losses` kept."""
    losses, predicted = logits
    mean = float(losses[predicted == 1].mean(dtype="float64"))
    return {"perplexity": math.exp(min(mean, 700.0)), "loss": mean}
