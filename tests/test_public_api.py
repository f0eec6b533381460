"""Scorers and passes that users write against the public names."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch

import slimformer as sf


@pytest.fixture
def registered():
    """What a user registers, for one test."""
    yield
    sf.importance.SCORERS._classes.pop("max_weight", None)
    sf.rewiring.PASSES._classes.pop("sort_but_first", None)


def test_a_scorer_and_a_pass_are_written_with_public_names(supernet, registered) -> None:
    @sf.importance.SCORERS.register("max_weight")
    @dataclass(frozen=True)
    class MaxWeight:
        """Largest absolute weight that reads a unit."""

        needs_data = False

        def __call__(self, supernet, batches):
            return {group.name: max_over_slices(supernet, group) for group in supernet.topology.groups}

    def max_over_slices(supernet, group):
        parts = [supernet.units(group, s).abs().flatten(1).amax(1) for s in group.slices if s.reads]
        return sum(parts)

    @sf.rewiring.PASSES.register("sort_but_first")
    @dataclass(frozen=True)
    class SortButFirst:
        """Sort units by importance, but leave the first blocks as they are."""

        blocks: int = 1

        def __call__(self, topology, scores):
            later = [g.name for g in topology.groups if topology.block_of(g) >= self.blocks]
            return sf.rewiring.Rewiring.of(topology, {n: scores[n].argsort(descending=True).tolist() for n in later})

    scores = MaxWeight()(supernet, [])
    first = supernet.model.bert.encoder.layer[0].output.dense.weight
    before = first.clone()
    SortButFirst()(supernet.topology, scores).apply_(supernet)
    assert torch.equal(first, before)
    columns = supernet.model.bert.encoder.layer[2].output.dense.weight.abs().amax(0)
    assert torch.equal(columns, columns.sort(descending=True).values)
