"""A rewiring pass of your own: registered by name, used from Python and from recipes.

In a recipe: `[rewiring] name = "sort_but_first"` and `plugins = ["custom_rewiring.py"]`.
"""

from dataclasses import dataclass

import slimformer as sf


@sf.rewiring.PASSES.register("sort_but_first")
@dataclass(frozen=True)
class SortButFirst:
    """Sort units by importance, but leave the first blocks as they are.

    blocks: the number of blocks that keep their order.
    """

    blocks: int = 1

    def __call__(self, topology, scores):
        """A rewiring of the groups in the later blocks."""
        later = [group.name for group in topology.groups if topology.block_of(group) >= self.blocks]
        return sf.rewiring.Rewiring.of(topology, {name: scores[name].argsort(descending=True).tolist() for name in later})


def main():
    """Rewire a model of random weights, and undo it."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification

    config = BertConfig(hidden_size=48, num_attention_heads=12, num_hidden_layers=4, intermediate_size=96)
    model = BertForSequenceClassification(config).eval()
    supernet = sf.make_elastic(model)
    ids = torch.randint(5, 100, (8, 16))
    before = model(ids).logits

    batches = [{"input_ids": ids, "labels": torch.tensor([0, 1] * 4)}]
    scores = sf.importance.FirstOrder()(supernet, batches)
    rewiring = SortButFirst(blocks=2)(supernet.topology, scores)
    rewiring.apply_(supernet)

    assert torch.allclose(model(ids).logits, before, atol=1e-5)  # the full-size model computes the same
    moved = [name for name, order in rewiring.orders.items() if order != tuple(range(len(order)))]
    print("rewired groups:", ", ".join(moved))
    assert rewiring.then(rewiring.inverse()).is_identity


if __name__ == "__main__":
    main()
