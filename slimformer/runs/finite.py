"""Checks that weights and importance scores are finite numbers."""

from __future__ import annotations

import torch
from torch import nn

from slimformer.errors import RunError
from slimformer.importance import Scores
from slimformer.progress import Report

REMEDY = 'train with a lower learning_rate, or with machine.precision = "fp32"'


def check_weights(model: nn.Module, place: str) -> None:
    """Check that every parameter is finite.

    Raises: RunError naming the first one that is not.
    """
    for name, parameter in model.named_parameters():
        if not bool(torch.isfinite(parameter.detach()).all()):
            raise RunError(f"{place} the weight {name} has values that are nan or infinite: {REMEDY}")


def check_scores(scores: Scores, needs_data: bool, report: Report) -> None:
    """Check that importance scores can order units; say which groups' units all have the same score 0.

    Raises: RunError where a score is not finite, or where a scorer that reads data gives all units of all groups 0.
    """
    empty = []
    for name, score in scores.items():
        if not bool(torch.isfinite(score).all()):
            raise RunError(
                f"the importance scores of {name} have values that are nan or infinite: the base model computes no finite "
                f"numbers; {REMEDY}, or take another importance.scorer"
            )
        if not bool(score.any()):
            empty.append(name)
    if needs_data and scores and len(empty) == len(scores):
        raise RunError(
            "every importance score is 0, so that no unit comes before another: give more examples (task.calibration_size, "
            "importance.max_examples) or take another importance.scorer"
        )
    if needs_data and empty:
        more = ", ..." if len(empty) > 3 else ""
        report.say(f"warning: all importance scores of {', '.join(empty[:3])}{more} are 0; these units keep their order")
