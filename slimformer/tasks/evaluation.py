"""Scores one sub-network on a split."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from slimformer.errors import RunError
from slimformer.supernet.forward import forward, inputs_of, logits_of
from slimformer.supernet.network import SuperNet
from slimformer.supernet.outputs import Batch, to_device
from slimformer.supernet.spec import SubnetSpec
from slimformer.tasks.base import Example, Keep, Logits, TaskData, keep_all


def predict(
    network: nn.Module,
    examples: Sequence[Example],
    collate: Callable[[Sequence[Example]], Batch],
    batch_size: int,
    autocast: Callable[[], AbstractContextManager[None]] = nullcontext,
    keep: Keep = keep_all,
) -> Logits:
    """What is kept of the network's logits on every example, in the examples' order, one float32 array per output head.

    Examples of like length share a batch, so that little is padded; the network is used in the mode that it is in. Where a
    head has logits for each token, shorter batches are filled up with nan: what stands beyond an example's tokens says nothing.
    """
    order = sorted(range(len(examples)), key=lambda i: -tokens_in(examples[i]))
    device = next(network.parameters()).device
    parts = []
    with torch.no_grad():
        for start in range(0, len(order), batch_size):
            batch = to_device(collate([examples[i] for i in order[start : start + batch_size]]), device)
            with autocast():
                logits = logits_of(network(**inputs_of(network, batch)))
            kept = [head.float().cpu() for head in keep(logits, batch)]
            _check_numbers(kept)
            parts.append(kept)
    back = torch.tensor(order).argsort()
    return tuple(joined(heads)[back].numpy() for heads in zip(*parts, strict=True))


def evaluate(
    network: nn.Module,
    data: TaskData,
    split: str,
    batch_size: int,
    autocast: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> dict[str, float]:
    """The task's metrics of a network on a split."""
    was_training = network.training
    network.eval()
    logits = predict(network, data.split(split), data.collate, batch_size, autocast, data.keep)
    network.train(was_training)
    return {name: float(value) for name, value in data.score(split, logits).items()}


def batches(
    examples: Sequence[Example], collate: Callable[[Sequence[Example]], Batch], batch_size: int, limit: int = 0
) -> list[Batch]:
    """Consecutive batches of the first `limit` examples (0: of all), in order."""
    chosen = [examples[i] for i in range(min(limit, len(examples)) if limit else len(examples))]
    return [collate(chosen[start : start + batch_size]) for start in range(0, len(chosen), batch_size)]


def joined(parts: Sequence[Tensor]) -> Tensor:
    """Batches of logits as one tensor, each filled up with nan to the greatest size in every dimension."""
    sizes = [max(part.shape[dim] for part in parts) for dim in range(1, parts[0].dim())]
    whole = parts[0].new_full((sum(len(part) for part in parts), *sizes), float("nan"))
    start = 0
    for part in parts:
        whole[(slice(start, start + len(part)), *(slice(0, size) for size in part.shape[1:]))] = part
        start += len(part)
    return whole


def _check_numbers(logits: Sequence[Tensor]) -> None:
    """Check that no logit is nan, which a metric could silently turn into a number.

    Raises: RunError.
    """
    if any(bool(head.isnan().any()) for head in logits):
        raise RunError(
            "the model's logits are nan, so nothing can be rated: train with a lower learning_rate, or with "
            'machine.precision = "fp32"'
        )


def tokens_in(example: Example) -> int:
    """How many tokens an example has; 0 for one that is no text."""
    return len(example["input_ids"]) if "input_ids" in example else 0


def measure(supernet: SuperNet, spec: SubnetSpec, data: TaskData, probe: Sequence[Any], batch_size: int) -> dict[str, float]:
    """The mean loss of a spec on the probe, and the task's metrics where the probe is all of the split."""
    network = supernet.frozen(spec)
    device = next(network.parameters()).device
    order = sorted(range(len(probe)), key=lambda i: -len(probe[i].get("input_ids", ())))
    total, parts = 0.0, []
    with torch.no_grad():
        for start in range(0, len(order), batch_size):
            chosen = order[start : start + batch_size]
            batch = to_device(data.collate([probe[i] for i in chosen]), device)
            outputs = forward(network, supernet.topology, spec, batch, hidden=False, labels=True)
            total += float(outputs.loss) * len(chosen)
            kept = [head.float().cpu() for head in data.keep(outputs.logits, batch)]
            _check_numbers(kept)
            parts.append(kept)
    metrics = {"loss": total / len(probe)}
    if len(probe) < len(data.calibration):
        return metrics
    back = torch.tensor(order).argsort()
    logits = tuple(joined(heads)[back].numpy() for heads in zip(*parts, strict=True))
    return metrics | {name: float(value) for name, value in data.score("calibration", logits).items()}
