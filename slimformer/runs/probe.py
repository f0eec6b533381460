"""The probe: the examples on which a search rates sub-networks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from slimformer.errors import SearchError
from slimformer.recipe.schema import Recipe
from slimformer.reports.run_results import RunResults
from slimformer.runs.folder import RunFolder
from slimformer.runs.ratings import RatingKey, Ratings
from slimformer.runs.search_options import SearchOptions
from slimformer.supernet.network import SuperNet
from slimformer.supernet.spec import SubnetSpec
from slimformer.tasks.base import Example, Measure, TaskData
from slimformer.tasks.evaluation import evaluate, measure


@dataclass(frozen=True)
class Probe:
    """Rate sub-networks of a finished run; every rating is kept in the run folder and never made twice."""

    folder: RunFolder
    recipe: Recipe
    options: SearchOptions
    results: RunResults
    supernet: SuperNet

    @cached_property
    def data(self) -> TaskData:
        """The run's data, loaded when the first rating is needed."""
        return self.recipe.task.load(str(self.folder.supernet))

    @cached_property
    def ratings(self) -> Ratings:
        """The ratings in the run folder."""
        return Ratings(self.folder)

    @cached_property
    def examples(self) -> Sequence[Example]:
        """The examples on which candidates are rated.

        Raises: SearchError where there is none, or where the metric cannot be had from so few.
        """
        split = self.data.split("calibration")
        chosen = [split[i] for i in range(min(self.options.probe or len(split), len(split)))]
        if not chosen:
            raise SearchError(
                "the calibration split is empty, so nothing can be rated: give the task a larger calibration_size"
            )
        if not self.options.rates_loss and len(chosen) < len(split):
            raise SearchError(
                f"the metric needs the whole calibration split of {len(split)} examples: write --probe 0, or --rate-by loss"
            )
        return chosen

    @property
    def name(self) -> str:
        """The probe's name in the ratings of the run folder."""
        return f"probe:{len(self.examples)} of calibration"

    @property
    def measure(self) -> Measure:
        """The reading of the run's main metric: its unit, and which direction is better."""
        return self.results.measure()

    @property
    def rating_name(self) -> str:
        """The name of a rating in tables: "-loss", or the metric, with a minus if lower is better."""
        return "-loss" if self.options.rates_loss else "-" * self.measure.lower_is_better + self.results.metric

    def rating(self, metrics: Mapping[str, float]) -> float:
        """The rating that metrics give, higher is better."""
        return -metrics["loss"] if self.options.rates_loss else self.measure.rating(metrics[self.results.metric])

    def metrics(self, spec: SubnetSpec) -> Mapping[str, float]:
        """The metrics of a spec on the probe."""
        key, size = RatingKey(self.recipe.snapshots[-1], self.name, spec), self.recipe.evaluation.batch_size
        return self.ratings.get(key, lambda: measure(self.supernet, spec, self.data, self.examples, size))

    def reported(self, spec: SubnetSpec) -> Mapping[str, float]:
        """The metrics of a spec on the split on which results are stated."""
        key, size = RatingKey(self.recipe.snapshots[-1], self.results.split, spec), self.recipe.evaluation.batch_size
        return self.ratings.get(key, lambda: evaluate(self.supernet.frozen(spec), self.data, key.split, size))

    def of_trained(self, trained: SuperNet, spec: SubnetSpec) -> tuple[Mapping[str, float], Mapping[str, float]]:
        """The metrics of a spec of another super-network on the probe and on the reporting split, not kept."""
        size = self.recipe.evaluation.batch_size
        on_probe = measure(trained, spec, self.data, self.examples, size)
        return on_probe, evaluate(trained.frozen(spec), self.data, self.results.split, size)
