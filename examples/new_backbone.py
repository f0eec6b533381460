"""A model family that slimformer has no backbone for: describe it, check the laws, and export a sub-network.

GPT-NeoX keeps query, key and value of each head side by side in one layer; `writes` gives each head its share of the rows.
"""

from dataclasses import dataclass

import torch
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

import slimformer as sf
from slimformer.backbones import BACKBONES, BlockStack, UnitGroup, in_features, prefix_of, reads, text_example, type_of, writes


@BACKBONES.register("gpt_neox")
@dataclass(frozen=True)
class GPTNeoX:
    """GPT-NeoX: heads and feed-forward neurons (width), blocks (depth)."""

    def describes(self, model):
        """Whether the model is a GPT-NeoX, with or without a head."""
        return type_of(model) == "gpt_neox"

    def topology(self, model):
        """The unit groups of each block, and the stack of blocks."""
        path = f"{prefix_of(model)}layers"
        blocks = len(model.get_submodule(path))
        groups = [group for index in range(blocks) for group in groups_of_block(model, f"{path}.{index}", index)]
        return sf.Topology(tuple(groups), (BlockStack("decoder", "depth", path, blocks),))

    def example(self, model, batch_size, length):
        """Token ids of that size."""
        return text_example(batch_size, length, model.config.max_position_embeddings)


def groups_of_block(model, block, index):
    """The heads and the neurons of one block."""
    number = model.config.num_attention_heads
    heads = (
        *writes(model, f"{block}.attention.query_key_value", number),
        *reads(model, f"{block}.attention.dense", number),
    )
    inner = in_features(model, f"{block}.mlp.dense_4h_to_h")
    neurons = (*writes(model, f"{block}.mlp.dense_h_to_4h", inner), *reads(model, f"{block}.mlp.dense_4h_to_h", inner))
    return (
        UnitGroup(f"decoder.{index}.heads", "width.heads", number, heads),
        UnitGroup(f"decoder.{index}.ffn", "width.ffn", inner, neurons, config_field="intermediate_size"),
    )


def tiny_model():
    """A GPT-NeoX with random weights, far enough from zero that every unit matters."""
    config = GPTNeoXConfig(
        hidden_size=32, num_attention_heads=4, num_hidden_layers=3, intermediate_size=48, vocab_size=60,
        max_position_embeddings=40, bos_token_id=0, eos_token_id=0, use_cache=False,
    )  # fmt: skip
    torch.manual_seed(0)
    model = GPTNeoXForCausalLM(config).eval()
    for parameter in model.parameters():
        parameter.data += 0.3 * torch.randn_like(parameter)
    return model


if __name__ == "__main__":
    model = tiny_model()
    sf.testing.check_backbone(GPTNeoX(), model)
    print("the laws hold")

    supernet = sf.make_elastic(model)
    spec = supernet.topology.spec({"decoder.0.ffn": 16, "decoder.2.ffn": 16}, {"decoder": (0, 2)})
    small = supernet.extract(spec).eval()
    small.save_pretrained("small_neox")
    ids = torch.randint(60, (2, 6))
    assert torch.allclose(sf.from_pretrained("small_neox").eval()(ids).logits, small(ids).logits, atol=1e-5)
    print("saved in small_neox:", sum(parameter.numel() for parameter in small.parameters()), "parameters")
