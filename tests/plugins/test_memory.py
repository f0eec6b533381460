"""Memory and weights: what a trace has alive, never less, for any family; the law of costs holds by `check_costs`."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from slimformer import SuperNet, testing
from slimformer.backbones import backbone_for
from slimformer.costs import COSTS, Workload
from slimformer_counters.memory import Memory, Trace, trace
from slimformer_counters.weights import Weights
from tests.conftest import build_tiny
from tests.families import BERT_SIZES, build

WORKLOAD = Workload(batch_size=4, length=12)
LLAMA = {
    "hidden_size": 32, "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 4, "intermediate_size": 48,
    "num_hidden_layers": 3, "vocab_size": 60, "max_position_embeddings": 40, "use_cache": True, "bos_token_id": 1,
    "eos_token_id": None, "pad_token_id": 0,
}  # fmt: skip
VIT = {"hidden_size": 32, "num_attention_heads": 4, "intermediate_size": 48, "num_hidden_layers": 3, "image_size": 12}
MODELS = {
    "bert": lambda: build_tiny("Bert"),
    "bert, eager": lambda: build_tiny("Bert", attention="eager"),
    "llama, which keeps its keys and values": lambda: build("Llama", "ForCausalLM", "sdpa", **LLAMA),
    "vit": lambda: build("ViT", "ForImageClassification", "sdpa", patch_size=4, **VIT),
    "albert, without a stack": lambda: build("Albert", "ForSequenceClassification", "sdpa", embedding_size=16, **BERT_SIZES),
}


def supernet(model: Any) -> SuperNet:
    return SuperNet(model, backbone_for(model).topology(model)).eval()


def most(found: Trace) -> int:
    alive, peak = found.inputs, 0
    for event in found.events:
        alive += found.sizes[event] if event >= 0 else -found.sizes[-1 - event]
        peak = max(peak, alive)
    return peak


@pytest.mark.parametrize("name", MODELS)
def test_predicted_memory_is_what_a_trace_of_the_extraction_has_alive_at_most(name):
    model = MODELS[name]()
    net, backbone = supernet(model), backbone_for(model)
    price, weights = (cost.price(net, backbone, WORKLOAD) for cost in (Memory(), Weights()))
    specs = testing.random_specs(net.topology, 6, torch.Generator().manual_seed(0))
    for spec in (net.topology.full, *specs):
        traced = most(trace(net, spec, backbone, WORKLOAD)) + weights(spec)
        hidden_state = 4 * 32 * WORKLOAD.batch_size * WORKLOAD.length
        assert traced <= price(spec) <= traced + (0 if spec == net.topology.full else hidden_state)


def test_weights_are_bytes_of_the_extraction_at_each_number_type(supernet):
    backbone = backbone_for(supernet.model)
    for spec in testing.random_specs(supernet.topology, 3, torch.Generator().manual_seed(0)):
        numbers = sum(p.numel() for p in supernet.extract(spec).parameters())
        for dtype, size in (("float32", 4), ("float16", 2), ("bfloat16", 2), ("int8", 1)):
            assert Weights(dtype).price(supernet, backbone, WORKLOAD)(spec) == size * numbers


def test_half_the_bytes_of_a_number_is_half_the_memory_of_weights_and_floats(supernet):
    backbone = backbone_for(supernet.model)
    whole, half = (Memory(dtype).price(supernet, backbone, WORKLOAD) for dtype in ("float32", "bfloat16"))
    full = supernet.topology.full
    assert 0.5 <= half(full) / whole(full) < 0.56


def test_tracing_leaves_the_model_as_it_was(supernet):
    before = {name: (tensor.clone(), tensor.data_ptr()) for name, tensor in supernet.state_dict().items()}
    COSTS.build("memory").price(supernet, backbone_for(supernet.model), WORKLOAD)
    after = supernet.state_dict()
    assert all(torch.equal(after[name], old) and after[name].data_ptr() == where for name, (old, where) in before.items())
    assert not any(module._forward_hooks for module in supernet.modules())
