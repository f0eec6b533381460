"""Tiny real models of the families beyond BERT, for the laws."""

from __future__ import annotations

from typing import Any

import torch
import transformers
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from slimformer import SuperNet, backbone_for, testing
from slimformer.cost import COSTS, Workload
from slimformer_counters.flops import sdpa_mapping

BERT_SIZES = {
    "hidden_size": 32,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "vocab_size": 60,
    "max_position_embeddings": 40,
    "pad_token_id": 1,
}


def scatter_(model: nn.Module, std: float = 0.3) -> Any:
    """Draw every weight far enough from zero that each unit matters, biases and norms too; in eval mode."""
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        parameter.data = noise * std if parameter.dim() > 1 else parameter.data + 0.1 * noise
    return model.eval()


def build(family: str, head: str, attention: str, *, config: str = "", **sizes: Any) -> Any:
    """A model of a transformers family with random weights, in eval mode, the same one at each call.

    config: the configuration's name, where it is not the family's.
    """
    made = getattr(transformers, f"{config or family}Config")(**sizes, attn_implementation=attention)
    return scatter_(getattr(transformers, f"{family}{head}")(made))


def check_flops(model: Any) -> None:
    """The FLOPs of two random sub-networks are those that torch's counter sees while their extractions run."""
    backbone = backbone_for(model)
    supernet = SuperNet(model, backbone.topology(model))
    price = COSTS.build("flops").price(supernet, backbone, Workload(2, 9))
    for spec in testing.random_specs(supernet.topology, 2, torch.Generator().manual_seed(0)):
        counter = FlopCounterMode(display=False, custom_mapping=sdpa_mapping())
        with torch.no_grad(), counter:
            supernet.extract(spec)(**backbone.example(model, 2, 9))
        assert price(spec) == counter.get_total_flops()
