"""Options of a search of a finished run, for the command line and Python alike."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

from slimformer.costs.base import Workload
from slimformer.errors import SearchError
from slimformer.search import STRATEGIES, Limit
from slimformer.search.choices import BlockRule

RateBy = Literal["loss", "metric"]


@dataclass(frozen=True)
class Cheapest:
    """The goal of the lowest cost: among the sub-networks whose metric on the probe is at least as good as `min_metric`."""

    cost: str
    min_metric: float


@dataclass(frozen=True)
class SharedStudy:
    """A search that several processes share through a journal file."""

    storage: Path
    name: str = "search"


@dataclass(frozen=True)
class SearchOptions:
    """What a search looks for, and how far.

    limits: ceilings on costs.
    like: a sub-network, "NAME" or "RUN:NAME", whose costs are ceilings too.
    cheapest: look for the cheapest good enough sub-network instead of the best one.
    strategy: a registered search strategy.
    max_ratings: sub-networks that are rated at most, the uniform ones included.
    rate_by: "loss" or "metric" on the probe; by default the metric with `cheapest`, else the loss.
    probe: examples of the calibration split on which candidates are rated; None for all of it.
    seed: of the search; None for the recipe's.
    workload: the inputs for which costs are stated; None for the recipe's.
    cost_options: options of costs, by cost and name.
    multiples: steps of sizes by axis, over the recipe's.
    blocks: which blocks may remain; None for the recipe's rule.
    study: where the search is shared with other processes; None for a search of its own.
    finetune: optimizer steps for the winner alone afterwards; None for no training.

    Raises: SearchError for options that contradict each other; UnknownComponentError for an unknown strategy.
    """

    limits: tuple[Limit, ...] = ()
    like: str | None = None
    cheapest: Cheapest | None = None
    strategy: str = "auto"
    max_ratings: int = 60
    rate_by: RateBy | None = None
    probe: int | None = 512
    seed: int | None = None
    workload: Workload | None = None
    cost_options: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    multiples: Mapping[str, int] = field(default_factory=dict)
    blocks: BlockRule | None = None
    study: SharedStudy | None = None
    finetune: int | None = None

    def __post_init__(self) -> None:
        STRATEGIES.get(self.strategy)
        if self.rate_by not in (None, *get_args(RateBy)) or (self.cheapest and self.rate_by == "loss"):
            raise SearchError(f"--rate-by {self.rate_by}: write loss or metric; --min-metric needs metric")
        if self.blocks not in (None, *get_args(BlockRule)):
            raise SearchError(
                f"--blocks {self.blocks}: write {', '.join(get_args(BlockRule)[:-1])} or {get_args(BlockRule)[-1]}"
            )
        for name, number in (("max_ratings", self.max_ratings), ("probe", self.probe), ("finetune", self.finetune)):
            if number is not None and number < 1:
                raise SearchError(f"{name} = {number}: write a whole number of 1 or more")

    @property
    def rates_loss(self) -> bool:
        """Whether candidates are rated by the loss on the probe."""
        return (self.rate_by or ("metric" if self.cheapest else "loss")) == "loss"
