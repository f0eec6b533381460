"""Counters: exact numbers of published models, agreement with extraction and with other counters, and the cost law."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from itertools import chain

import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertForSequenceClassification,
    BertModel,
    ElectraConfig,
    ElectraForSequenceClassification,
    RobertaConfig,
    RobertaForSequenceClassification,
    RobertaModel,
)

from slimformer.axes import Axis, KeepLast, Space
from slimformer.costs import COSTS, Workload
from slimformer.errors import TopologyError
from slimformer.supernet import Slice, SubnetSpec, SuperNet, Topology, UnitGroup
from slimformer_counters.flops import Flops, Macs, profile, sdpa_mapping
from slimformer_counters.parameters import Parameters
from slimformer_counters.polynomial import Share
from slimformer_encoders.bert import BertFamily

WIDTHS = (1.0, 0.75, 0.5, 0.25)
DEPTHS = (1.0, 0.75, 0.5)
WORKLOAD = Workload(batch_size=2, length=10)
HIDDEN, HEAD, LAYERS, VOCABULARY = 32, 8, 4, 50
SIZES = {
    "vocab_size": VOCABULARY,
    "hidden_size": HIDDEN,
    "num_attention_heads": HIDDEN // HEAD,
    "num_hidden_layers": LAYERS,
    "intermediate_size": 64,
    "max_position_embeddings": 80,
    "pad_token_id": 1,
}
MODELS = {
    "bert": lambda **options: BertForSequenceClassification(BertConfig(**SIZES, **options)),
    "bert_tied": lambda **options: BertForMaskedLM(BertConfig(**SIZES, **options)),
    "roberta": lambda **options: RobertaForSequenceClassification(RobertaConfig(**SIZES, **options)),
    "electra": lambda **options: ElectraForSequenceClassification(ElectraConfig(**SIZES, embedding_size=16, **options)),
}
ROBERTA_BASE = {"vocab_size": 50265, "max_position_embeddings": 514, "type_vocab_size": 1}


def supernet(model: nn.Module) -> SuperNet:
    return SuperNet(model, BertFamily().topology(model)).eval()


def tiny(name: str = "bert", **options: object) -> SuperNet:
    return supernet(MODELS[name](**options))


def on_meta(build: type, config: object) -> SuperNet:
    with torch.device("meta"):
        return supernet(build(config))


def space(topology: Topology) -> Space:
    return Space(topology, (Axis("width", WIDTHS), Axis("depth", DEPTHS)), KeepLast())


def grid(net: SuperNet) -> dict[tuple[float, float], SubnetSpec]:
    whole = space(net.topology)
    return {(w, d): whole.spec({"width": w, "depth": d}) for w in WIDTHS for d in DEPTHS}


def random_specs(net: SuperNet, count: int) -> list[SubnetSpec]:
    generator = torch.Generator().manual_seed(0)
    whole = space(net.topology)
    return [whole.random_spec(generator) for _ in range(count)]


def counted(model: nn.Module, workload: Workload, mapping: dict) -> int:
    """What torch's counter finds on a real forward pass."""
    inputs = BertFamily().example(model, workload.batch_size, workload.length)
    with torch.no_grad(), FlopCounterMode(display=False, custom_mapping=mapping) as counter:
        model(**inputs)
    return counter.get_total_flops()


class Logits(nn.Module):
    """A model that returns a tensor, as tracing wants it."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        return self.model(input_ids=input_ids, attention_mask=attention_mask).logits


def counted_by_fvcore(model: nn.Module, workload: Workload, handles: dict) -> int:
    from fvcore.nn import FlopCountAnalysis

    inputs = BertFamily().example(model, workload.batch_size, workload.length)
    analysis = FlopCountAnalysis(Logits(model).eval(), (inputs["input_ids"], inputs["attention_mask"]))
    analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False).tracer_warnings("none")
    return analysis.set_op_handle(**handles).total()


def sdpa_macs(inputs: list, outputs: list) -> int:
    """MACs of scores and context, written down apart from the plugin's own formula."""
    query, key, value = (shape.type().sizes() for shape in inputs[:3])
    return query[0] * query[1] * query[2] * key[2] * (query[3] + value[3])


SDPA_HANDLE = {"aten::scaled_dot_product_attention": sdpa_macs}


# Exact numbers


ENCODER_PARAMETERS = {
    (1.0, 1.0): 85_054_464,
    (1.0, 0.75): 63_790_848,
    (1.0, 0.5): 42_527_232,
    (0.75, 1.0): 63_804_672,
    (0.75, 0.75): 47_853_504,
    (0.75, 0.5): 31_902_336,
    (0.5, 1.0): 42_554_880,
    (0.5, 0.75): 31_916_160,
    (0.5, 0.5): 21_277_440,
    (0.25, 1.0): 21_305_088,
    (0.25, 0.75): 15_978_816,
    (0.25, 0.5): 10_652_544,
}
BERT_PARAMETERS = {
    (1.0, 1.0): 109_483_778,
    (1.0, 0.75): 88_220_162,
    (1.0, 0.5): 66_956_546,
    (0.75, 1.0): 88_233_986,
    (0.75, 0.75): 72_282_818,
    (0.75, 0.5): 56_331_650,
    (0.5, 1.0): 66_984_194,
    (0.5, 0.75): 56_345_474,
    (0.5, 0.5): 45_706_754,
    (0.25, 1.0): 45_734_402,
    (0.25, 0.75): 40_408_130,
    (0.25, 0.5): 35_081_858,
}
ROBERTA_PARAMETERS = {
    (1.0, 1.0): 124_647_170,
    (1.0, 0.75): 103_383_554,
    (1.0, 0.5): 82_119_938,
    (0.75, 1.0): 103_397_378,
    (0.75, 0.75): 87_446_210,
    (0.75, 0.5): 71_495_042,
    (0.5, 1.0): 82_147_586,
    (0.5, 0.75): 71_508_866,
    (0.5, 0.5): 60_870_146,
    (0.25, 1.0): 60_897_794,
    (0.25, 0.75): 55_571_522,
    (0.25, 0.5): 50_245_250,
}
BERT_EMBEDDINGS, ROBERTA_EMBEDDINGS, POOLER = 23_837_184, 39_000_576, 590_592
WITHOUT_HEAD = {
    "bert": {point: BERT_EMBEDDINGS + encoder + POOLER for point, encoder in ENCODER_PARAMETERS.items()},
    "roberta": {point: ROBERTA_EMBEDDINGS + encoder + POOLER for point, encoder in ENCODER_PARAMETERS.items()},
}


@pytest.mark.parametrize(
    ("build", "config", "expected"),
    [
        (BertForSequenceClassification, BertConfig(), BERT_PARAMETERS),
        (BertModel, BertConfig(), WITHOUT_HEAD["bert"]),
        (RobertaForSequenceClassification, RobertaConfig(**ROBERTA_BASE), ROBERTA_PARAMETERS),
        (RobertaModel, RobertaConfig(**ROBERTA_BASE), WITHOUT_HEAD["roberta"]),
    ],
)
def test_parameters_of_the_base_models_are_exact_at_all_twelve_points(build, config, expected):
    net = on_meta(build, config)
    price = Parameters().price(net, BertFamily(), Workload())
    assert {point: price(spec) for point, spec in grid(net).items()} == expected


ENCODER_MACS = 11_173_625_856
"""BERT-base at 128 tokens: 12 * (128 * (4 * 768 * 768 + 2 * 768 * 3072) + 2 * 128 * 128 * 768)."""
HEAD_MACS = 768 * 768 + 768 * 2
"""BERT's pooler and classifier, or RoBERTa's classifier of two matrices, on one token; 2 labels."""


@pytest.mark.parametrize(
    ("build", "config"),
    [(BertForSequenceClassification, BertConfig()), (RobertaForSequenceClassification, RobertaConfig(**ROBERTA_BASE))],
)
def test_flops_of_the_base_models_are_the_encoders_times_width_times_depth_plus_the_head(build, config):
    net = on_meta(build, config)
    macs, flops = (cost.price(net, BertFamily(), Workload(1, 128)) for cost in (Macs(), Flops()))
    expected = {(w, d): ENCODER_MACS * w * d + HEAD_MACS for w in WIDTHS for d in DEPTHS}
    assert {point: macs(spec) for point, spec in grid(net).items()} == expected
    assert {point: flops(spec) / 2 for point, spec in grid(net).items()} == expected
    assert flops(net.topology.full) - 2 * HEAD_MACS == 22_347_251_712
    assert macs(grid(net)[0.25, 0.5]) - HEAD_MACS == 1_396_703_232


def test_macs_of_bert_base_at_384_tokens_are_the_published_ones():
    net = on_meta(BertForSequenceClassification, BertConfig())
    macs = Macs().price(net, BertFamily(), Workload(1, 384))
    rounded = {point: round((macs(spec) - HEAD_MACS) / 1e9, 3) for point, spec in grid(net).items()}
    assert (rounded[1, 1], rounded[0.75, 0.75], rounded[0.25, 0.5]) == (35.333, 19.875, 4.417)


# Agreement with the extracted model and with other counters


@pytest.mark.parametrize("name", MODELS)
def test_parameters_equal_those_of_the_extracted_model(name):
    net = tiny(name)
    price = Parameters().price(net, BertFamily(), WORKLOAD)
    for spec in random_specs(net, 1000)[:: 1 if name == "bert" else 5]:
        assert price(spec) == sum(p.numel() for p in net.extract(spec).parameters())


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("name", MODELS)
def test_flops_equal_those_counted_while_the_extracted_model_runs(name, attention):
    net = tiny(name, attn_implementation=attention)
    price = Flops().price(net, BertFamily(), WORKLOAD)
    for spec in (net.topology.full, *random_specs(net, 20)):
        assert price(spec) == counted(net.extract(spec), WORKLOAD, sdpa_mapping())


def test_macs_are_half_the_flops():
    net = tiny()
    macs, flops = (cost.price(net, BertFamily(), WORKLOAD) for cost in (Macs(), Flops()))
    assert all(2 * macs(spec) == flops(spec) for spec in random_specs(net, 50))


@pytest.mark.parametrize("name", ["bert", "roberta", "electra"])
def test_fvcore_with_an_sdpa_handle_counts_the_macs_plus_five_for_each_layer_norm_element(name):
    net = tiny(name)
    price = Macs().price(net, BertFamily(), WORKLOAD)
    tokens = WORKLOAD.batch_size * WORKLOAD.length
    embedding = 16 if name == "electra" else HIDDEN
    for spec in (net.topology.full, *random_specs(net, 4)):
        elements = tokens * (embedding + 2 * len(spec.blocks["encoder"]) * HIDDEN)
        assert counted_by_fvcore(net.extract(spec), WORKLOAD, SDPA_HANDLE) - price(spec) == 5 * elements
    assert 5 * tokens * (2 * LAYERS + 1) * HIDDEN == 28_800


def test_fvcore_without_the_handle_misses_scores_and_context():
    net = tiny()
    for spec in (net.topology.full, *random_specs(net, 4)):
        model = net.extract(spec)
        heads = sum(units for name, units in spec.units.items() if name.endswith("heads"))
        attention = 2 * WORKLOAD.batch_size * WORKLOAD.length**2 * HEAD * heads
        found = [counted_by_fvcore(model, WORKLOAD, handles) for handles in (SDPA_HANDLE, {})]
        assert found[0] - found[1] == attention


def test_torchs_counter_without_an_sdpa_formula_misses_scores_and_context():
    net = tiny(attn_implementation="sdpa")
    unknown = {operator: lambda *_, **__: 0 for operator in sdpa_mapping()}
    missing = Flops().price(net, BertFamily(), WORKLOAD)(net.topology.full) - counted(net.model, WORKLOAD, unknown)
    assert missing == 2 * 2 * WORKLOAD.batch_size * WORKLOAD.length**2 * HIDDEN * LAYERS


# Laws

NET = tiny()
PRICES = {name: COSTS.build(name).price(NET, BertFamily(), WORKLOAD) for name in ("params", "flops", "macs")}


@st.composite
def nested_specs(draw: st.DrawFn) -> tuple[SubnetSpec, SubnetSpec]:
    """Two specs of the tiny model, the second with at least the first one's units and blocks."""
    topology = NET.topology
    small = {g.name: draw(st.integers(1, g.num_units)) for g in topology.groups}
    large = {g.name: draw(st.integers(small[g.name], g.num_units)) for g in topology.groups}
    few = {s.name: draw(st.sets(st.integers(0, s.num_blocks - 1), min_size=1)) for s in topology.stacks}
    many = {s.name: few[s.name] | draw(st.sets(st.integers(0, s.num_blocks - 1))) for s in topology.stacks}
    return topology.spec(small, few), topology.spec(large, many)


@pytest.mark.parametrize("name", PRICES)
@given(nested=nested_specs())
@settings(deadline=None)
def test_a_cost_never_falls_when_units_or_blocks_are_added(name, nested):
    smaller, larger = nested
    assert PRICES[name](smaller) <= PRICES[name](larger)


@pytest.mark.parametrize("name", PRICES)
def test_every_group_and_every_block_costs_something(name):
    topology = NET.topology
    whole = PRICES[name](topology.full)
    fewer_units = [topology.spec({g.name: g.num_units - 1}, {}) for g in topology.groups]
    fewer_blocks = [topology.spec({}, {"encoder": set(range(LAYERS)) - {b}}) for b in range(LAYERS)]
    assert all(PRICES[name](spec) < whole for spec in (*fewer_units, *fewer_blocks))


def test_flops_are_proportional_to_the_batch():
    net = tiny()
    one, five = (Flops().price(net, BertFamily(), Workload(batch, 10)) for batch in (1, 5))
    assert all(five(spec) == 5 * one(spec) for spec in random_specs(net, 20))


@pytest.mark.parametrize("length", [1, 7, 64])
def test_flops_grow_with_the_length_as_the_formula_says(length):
    net = tiny()
    price = Macs().price(net, BertFamily(), Workload(1, length))
    for spec in random_specs(net, 20):
        heads = HEAD * sum(units for name, units in spec.units.items() if name.endswith("heads"))
        neurons = sum(units for name, units in spec.units.items() if name.endswith("ffn"))
        encoder = length * (4 * HIDDEN * heads + 2 * HIDDEN * neurons) + 2 * length**2 * heads
        assert price(spec) == encoder + HIDDEN * HIDDEN + HIDDEN * 2


def test_parameters_do_not_depend_on_the_workload():
    one, other = (Parameters().price(NET, BertFamily(), workload) for workload in (Workload(1, 8), Workload(4, 32)))
    assert one == other


# The profile


def hooks(model: nn.Module) -> list[object]:
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    everywhere = torch.nn.modules.module
    own = chain.from_iterable(getattr(module, kind).values() for module in model.modules() for kind in kinds)
    return [*own, *everywhere._global_forward_hooks.values(), *everywhere._global_forward_pre_hooks.values()]


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_a_profile_leaves_the_super_network_as_it_was(attention):
    net = tiny(attn_implementation=attention).train()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    tensors = [(id(t), t.data_ptr(), t.requires_grad) for t in chain(net.parameters(), net.buffers())]
    Flops().price(net, BertFamily(), WORKLOAD)
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())
    assert [(id(t), t.data_ptr(), t.requires_grad) for t in chain(net.parameters(), net.buffers())] == tensors
    assert net.state_dict().keys() == before.keys()
    assert all(module.training for module in net.modules())
    assert all(p.grad is None for p in net.parameters())
    assert hooks(net) == []


def test_a_model_without_weights_has_the_same_price():
    net = on_meta(BertForSequenceClassification, BertConfig(**SIZES))
    for name, price in PRICES.items():
        assert COSTS.build(name).price(net, BertFamily(), WORKLOAD) == price


@dataclass(frozen=True)
class Vectors:
    """A backbone of models that take one matrix; only `example` is used here."""

    def example(self, model: nn.Module, batch_size: int, length: int) -> dict[str, torch.Tensor]:
        return {"input": torch.zeros(batch_size, length, 6)}


def group(name: str, units: int, *slices: Slice) -> UnitGroup:
    return UnitGroup(name, f"width.{name}", units, slices)


def test_a_weight_between_two_groups_scales_with_the_product_of_their_units():
    model = nn.Sequential(nn.Linear(6, 4), nn.Linear(4, 10), nn.Linear(10, 6))
    inner = group("inner", 4, Slice("0.weight", 0), Slice("0.bias", 0), Slice("1.weight", 1))
    outer = group("outer", 5, Slice("1.weight", 0, 2), Slice("1.bias", 0, 2), Slice("2.weight", 1, 2))
    net = SuperNet(model, Topology((inner, outer), ()))
    flops, parameters = (cost.price(net, Vectors(), Workload(1, 3)) for cost in (Flops(), Parameters()))
    for i, o in ((4, 5), (1, 5), (3, 2), (1, 1)):
        spec = net.topology.spec({"inner": i, "outer": o}, {})
        assert flops(spec) == 2 * 3 * (6 * i + i * 2 * o + 2 * o * 6)
        assert parameters(spec) == sum(p.numel() for p in net.extract(spec).parameters())


class Products(nn.Module):
    """A module that multiplies what its children wrote."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Linear(6, 4), nn.Linear(6, 4)

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return self.left(input) @ self.right(input).mT


def test_products_of_what_the_children_wrote_scale_with_their_units():
    slices = (Slice(f"{side}.{kind}", 0) for side in ("left", "right") for kind in ("weight", "bias"))
    net = SuperNet(Products(), Topology((group("units", 4, *slices),), ()))
    flops = Flops().price(net, Vectors(), Workload(1, 3))
    for units in (4, 3, 1):
        assert flops(net.topology.spec({"units": units}, {})) == 2 * (2 * 3 * 6 * units) + 2 * 3 * 3 * units


def test_products_that_could_belong_to_two_groups_are_refused():
    left = group("lefts", 4, Slice("left.weight", 0), Slice("left.bias", 0))
    right = group("rights", 4, Slice("right.weight", 0), Slice("right.bias", 0))
    net = SuperNet(Products(), Topology((left, right), ()))
    with pytest.raises(TopologyError, match="lefts or rights"):
        Flops().price(net, Vectors(), Workload(1, 3))


def test_a_count_that_is_no_multiple_of_the_units_is_refused():
    with pytest.raises(TopologyError, match="7, which is not a multiple of 4 units of 'heads'"):
        Share("encoder.attention", 7, (group("heads", 4),)).coefficient  # noqa: B018


class Twice(nn.Module):
    """A module that calls one that belongs to another module, and does so twice."""

    def __init__(self) -> None:
        super().__init__()
        self.owner = nn.Sequential(nn.Linear(6, 6))

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return self.owner[0](self.owner[0](input))


def test_a_module_that_is_called_twice_counts_twice_and_its_owner_not_at_all():
    assert profile(Twice(), Vectors(), Workload(1, 3)) == {"owner.0": 2 * (2 * 3 * 6 * 6)}


def test_listing_the_counters_imports_no_torch():
    code = "import sys, slimformer_counters; assert 'torch' not in sys.modules, 'torch was imported'"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_cost_says_its_unit():
    assert (Parameters().unit, Flops().unit, Macs().unit) == ("parameters", "FLOPs, one multiply-add = 2", "MACs")
