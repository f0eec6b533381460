"""An importance scorer of your own: registered by name, used from Python and from recipes.

In a recipe: `[importance] scorer = "max_weight"` and `plugins = ["custom_scorer.py"]`.
"""

from dataclasses import dataclass
from typing import ClassVar

import slimformer as sf


@sf.importance.SCORERS.register("max_weight")
@dataclass(frozen=True)
class MaxWeight:
    """Largest absolute weight that reads a unit."""

    needs_data: ClassVar[bool] = False

    def __call__(self, supernet, batches):
        """A score for each unit of each group."""
        return {group.name: max_over_slices(supernet, group) for group in supernet.topology.groups}


def max_over_slices(supernet, group):
    """The sum, over the slices that read a group's units, of each unit's largest absolute weight: Float[Tensor, "units"]."""
    parts = [supernet.units(group, part).detach().abs().flatten(1).amax(1) for part in group.slices if part.reads]
    return sum(parts)


def main():
    """Rewire a model of random weights by the scorer, and show that its outputs stay as they were."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification

    config = BertConfig(hidden_size=48, num_attention_heads=12, num_hidden_layers=2, intermediate_size=96)
    model = BertForSequenceClassification(config).eval()
    supernet = sf.make_elastic(model)
    ids = torch.randint(5, 100, (2, 16))
    before = model(ids).logits

    scores = MaxWeight()(supernet, batches=[])
    sf.rewiring.Sort()(supernet.topology, scores).apply_(supernet)

    assert torch.allclose(model(ids).logits, before, atol=1e-5)
    sorted_scores = MaxWeight()(supernet, batches=[])
    assert all((score.diff() <= 0).all() for score in sorted_scores.values())
    print("scorers:", ", ".join(sf.importance.SCORERS.names()))


if __name__ == "__main__":
    main()
