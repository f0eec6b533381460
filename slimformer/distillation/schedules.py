"""Schedules: named lists of training stages, so that a recipe need not spell them out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Protocol

from pydantic import Field

from slimformer.registry import Registry

Stage = Mapping[str, object]
"""A stage as the table that `[[stage]]` holds: name, axes, teacher, follow, sampler, terms, training, examples."""

TermTable = str | dict[str, object]
"""A loss term: its name, or a table with its name and options. A list as `weight` has one weight for each stage."""

SamplerTable = str | dict[str, object]
"""A sampler: its name, or a table with its name and options."""

StageName = Annotated[str, Field(pattern=r"^[a-z0-9_]+$")]
"""A stage's name: lower-case letters, digits and underscores."""


class Schedule(Protocol):
    """A list of stages.

    Law: the result is a function of the options alone; it has at least one stage, and no two of the same name.
    """

    def __call__(self) -> Sequence[Stage]:
        """The stages in order, each as a `[[stage]]` table; what a table leaves out has the table's defaults."""
        ...


SCHEDULES: Registry[Schedule] = Registry("schedule", "schedules", requires=("__call__",))
"""Distillation schedules by name."""

DYNABERT_TERMS: tuple[TermTable, ...] = (
    {"name": "soft_cross_entropy", "weight": 1.0},
    {"name": "hidden_mse", "weight": [0.1, 1.0]},
    {"name": "embedding_mse", "weight": [0.1, 1.0]},
)
"""The loss of DynaBERT's two stages (arXiv 2004.04037, section 3.1)."""


@SCHEDULES.register("dynabert")
@dataclass(frozen=True)
class DynaBERT:
    """Two stages, "width" and "depth": first the width alone, then width and depth with the first stage's model as teacher.

    Source: DynaBERT (arXiv 2004.04037, sections 2.1 and 2.2, algorithms 2 and 3).

    terms: the loss terms of both stages; a weight given as a list has one weight for each stage.
    training: the `training` table of both stages: epochs, learning_rate, warmup, ...
    sampler: the sub-networks that each step runs.
    width: the axes that are elastic in both stages.
    depth: the axes that become elastic in the second stage.
    follow: the axes on which the second stage's teacher is as small as the student; an empty list keeps the teacher whole.
    examples: the set that both stages train on.

    ```python
    from slimformer.distillation import DynaBERT
    width, depth = DynaBERT(training={"epochs": 1})()
    assert (width["teacher"], depth["teacher"]) == ("base", "width")
    ```
    """

    terms: tuple[TermTable, ...] = DYNABERT_TERMS
    training: dict[str, object] = field(default_factory=dict)
    sampler: SamplerTable = "every"
    width: tuple[str, ...] = ("width",)
    depth: tuple[str, ...] = ("depth",)
    follow: tuple[str, ...] = ("width",)
    examples: str = "train"

    def __call__(self) -> Sequence[Stage]:
        """The stages "width" and "depth"."""
        common = {"sampler": self.sampler, "training": self.training, "examples": self.examples}
        width = {"name": "width", "axes": self.width, "teacher": "base", "terms": _terms_of(self.terms, 0)}
        depth = {"name": "depth", "axes": (*self.width, *self.depth), "teacher": "width", "follow": self.follow}
        return ({**width, **common}, {**depth, "terms": _terms_of(self.terms, 1), **common})


@SCHEDULES.register("one_stage")
@dataclass(frozen=True)
class OneStage:
    """A single stage in which all axes are elastic at once.

    stage: the name of the stage.
    axes: the axes that are elastic.
    teacher: "base" (the fine-tuned model), the name of an earlier stage, or "largest" (the step's largest sub-network).
    follow: the axes on which the teacher is as small as the student.
    terms: the loss terms.
    training: the stage's `training` table: epochs, learning_rate, warmup, ...
    sampler: the sub-networks that each step runs.
    examples: the set that the stage trains on.

    ```python
    from slimformer.distillation import OneStage
    (stage,) = OneStage(sampler="sandwich")()
    assert stage["axes"] == ("width", "depth")
    ```
    """

    stage: StageName = "both"
    axes: tuple[str, ...] = ("width", "depth")
    teacher: str = "base"
    follow: tuple[str, ...] = ()
    terms: tuple[TermTable, ...] = ("soft_cross_entropy", "hidden_mse", "embedding_mse")
    training: dict[str, object] = field(default_factory=dict)
    sampler: SamplerTable = "every"
    examples: str = "train"

    def __call__(self) -> Sequence[Stage]:
        """The single stage."""
        what = {"name": self.stage, "axes": self.axes, "teacher": self.teacher, "follow": self.follow}
        how = {"terms": self.terms, "training": self.training, "sampler": self.sampler, "examples": self.examples}
        return ({**what, **how},)


@SCHEDULES.register("final_finetuning")
@dataclass(frozen=True)
class FinalFinetuning:
    """A last stage, "final", in which all sub-networks train on the labels without a teacher; it follows another schedule.

    Source: the optional last step of DynaBERT (arXiv 2004.04037, section 3.1).

    axes: the axes that are elastic.
    training: the stage's `training` table: epochs, learning_rate, warmup, ...
    sampler: the sub-networks that each step runs.

    ```python
    from slimformer.distillation import FinalFinetuning
    assert [stage["name"] for stage in FinalFinetuning()()] == ["final"]
    ```
    """

    axes: tuple[str, ...] = ("width", "depth")
    training: dict[str, object] = field(default_factory=dict)
    sampler: SamplerTable = "every"

    def __call__(self) -> Sequence[Stage]:
        """The stage "final"."""
        how = {"terms": ("labels",), "training": self.training, "sampler": self.sampler}
        return ({"name": "final", "axes": self.axes, **how},)


def _terms_of(terms: tuple[TermTable, ...], stage: int) -> tuple[TermTable, ...]:
    """The terms of one stage: a weight given as a list is that of the stage."""
    return tuple(_with_weight_of(term, stage) for term in terms)


def _with_weight_of(term: TermTable, stage: int) -> TermTable:
    weights = term.get("weight") if isinstance(term, dict) else None
    if not isinstance(term, dict) or not isinstance(weights, list | tuple) or stage >= len(weights):
        return term
    return {**term, "weight": weights[stage]}
