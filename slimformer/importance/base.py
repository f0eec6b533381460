"""The protocol and registry of importance scorers, and what they share."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Protocol

from slimformer.registry import Registry
from slimformer.supernet.outputs import Batch
from slimformer.supernet.topology import Topology, UnitGroup

if TYPE_CHECKING:
    from torch import Tensor

    from slimformer.supernet.network import SuperNet

Scores = Mapping[str, "Tensor"]
"""Group name -> Float[Tensor, "units"], higher is more important; comparable within a group."""


class Scorer(Protocol):
    """A function that gives each unit of each group an importance.

    Laws: the super-network is left as it was; a unit whose outgoing weights are all zero scores no higher than any other
    (for scorers that read the model); permuting the units permutes the scores.

    needs_data: whether the scorer reads the batches at all.
    """

    needs_data: ClassVar[bool]

    def __call__(self, supernet: SuperNet, batches: Iterable[Batch]) -> Scores: ...


SCORERS: Registry[Scorer] = Registry("importance scorer", "scorers", requires=("needs_data", "__call__"))
"""Importance scorers by name."""


def readers(group: UnitGroup) -> list[tuple[str, int]]:
    """The modules that read a group's units, each with the unit size: those whose weight is sliced by input column."""
    return [(part.module, part.unit_size) for part in group.slices if part.reads]


def writers(group: UnitGroup) -> list[tuple[str, int]]:
    """The modules that write a group's units: those whose weight is sliced by output row; a fused one once for each part."""
    return [(part.module, part.unit_size) for part in group.slices if part.writes]


def strength(units: Tensor) -> Tensor:
    """The sum of squares of each coordinate's weights, Float[Tensor, "units unit_size"].

    units: a slice of a group as `SuperNet.units` gives it, Float[Tensor, "units unit_size ..."].
    """
    return units.movedim((0, 1), (-2, -1)).flatten(0, -3).square().sum(0)


def save_scores(scores: Scores, path: Path) -> None:
    """Write scores as a safetensors file, a tensor for each group.

    ```python
    from slimformer.importance import Magnitude, load_scores, save_scores
    save_scores(Magnitude()(supernet, []), path)
    scores = load_scores(path, supernet.topology)
    ```
    """
    from safetensors.torch import save_file

    save_file({name: score.contiguous().cpu() for name, score in scores.items()}, path)


def load_scores(path: Path, topology: Topology) -> Scores:
    """Read scores saved by `save_scores`.

    Raises: TopologyError where they are not scores of this topology.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    from slimformer.errors import TopologyError

    try:
        scores = load_file(path)
    except (OSError, SafetensorError) as error:
        raise TopologyError(f"{path} holds no scores ({error}): remove it and run the same command again") from None
    if {name: tuple(score.shape) for name, score in scores.items()} != {g.name: (g.num_units,) for g in topology.groups}:
        raise TopologyError(f"{path} holds scores of another topology")
    if not all(bool(score.isfinite().all()) for score in scores.values()):
        raise TopologyError(f"{path} holds scores that are not finite: remove it and run the same command again")
    return scores
