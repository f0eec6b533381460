"""The width of the residual stream: it keeps the laws, composes with the other axes, and equals a model made so narrow by hand."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

from slimformer import SuperNet, Topology, testing
from slimformer.backbones import BACKBONES, backbone_for
from slimformer.costs import COSTS, Workload
from slimformer.distillation import EmbeddingMSE, HiddenMSE
from slimformer.errors import SpaceError, TopologyError
from slimformer.export import export, from_pretrained
from slimformer.importance import ActivationNorm, FirstOrder, Magnitude
from slimformer.rewiring import Sort
from slimformer.supernet.forward import forward
from tests.families import BERT_SIZES, FAMILIES, build


def with_hidden(model: Any) -> Any:
    """The model's backbone with the axis "hidden"."""
    return BACKBONES.build({"name": BACKBONES.name_of(backbone_for(model)), "hidden": True})


def specs_of(topology: Topology) -> list[Any]:
    """The stream alone at some widths, everything at half, and some per-layer specs."""
    alone = [topology.spec({"hidden": units}, {}) for units in (20, 8)]
    half = topology.spec({group.name: group.at(0.5) for group in topology.groups}, {topology.stacks[0].name: (0, 2)})
    return [half, *alone, *testing.random_specs(topology, 2, torch.Generator().manual_seed(1))]


def sized(family: str, head: str, **sizes: Any) -> Any:
    return build(family, head, "sdpa", **BERT_SIZES | sizes)


@pytest.mark.parametrize(("family", "head", "sizes"), [
    ("Bert", "ForSequenceClassification", {}),
    ("Bert", "ForMaskedLM", {}),
    ("Roberta", "ForMaskedLM", {"tie_word_embeddings": False}),
    ("Electra", "ForSequenceClassification", {"embedding_size": 16}),
])  # fmt: skip
def test_encoders_keep_the_laws_with_an_elastic_stream(family: str, head: str, sizes: dict[str, Any]) -> None:
    model = sized(family, head, **sizes)
    backbone = with_hidden(model)
    testing.check_backbone(backbone, model, specs=specs_of(backbone.topology(model)))


@pytest.mark.parametrize("family", ["Llama", "Gemma-3"])
def test_decoders_keep_the_laws_with_an_elastic_stream(family: str) -> None:
    model = FAMILIES[family].build("sdpa")
    backbone = with_hidden(model)
    testing.check_backbone(backbone, model, specs=specs_of(backbone.topology(model)))


def test_a_topology_has_no_hidden_axis_unless_it_is_asked_for() -> None:
    model = sized("Bert", "ForSequenceClassification")
    assert backbone_for(model).topology(model).axes == ("width.heads", "width.ffn", "depth")
    assert backbone_for(model, (with_hidden(model),)).topology(model).axes[-2:] == ("hidden", "depth")
    with pytest.raises(TopologyError, match=r"model\.backbones: llama does not describe BertForSequenceClassification"):
        backbone_for(model, (BACKBONES.build({"name": "llama", "hidden": True}),))
    other = sized("Bert", "ForNextSentencePrediction")
    del other.bert.pooler
    with pytest.raises(TopologyError, match="hidden is not described for the head of BertForNextSentence"):
        with_hidden(other).topology(other)
    with pytest.raises(TopologyError, match="BertModel returns its residual stream"):
        with_hidden(other).topology(model.bert)


def test_a_narrow_sub_network_is_the_stock_model_made_so_narrow_by_hand() -> None:
    model = FAMILIES["Llama"].build("sdpa")
    supernet = SuperNet(model, with_hidden(model).topology(model))
    config = copy.deepcopy(model.config)
    config.hidden_size = 20
    narrow = type(model)(config).eval()
    for name, weight in narrow.named_parameters():
        weight.data = model.get_parameter(name).data[tuple(slice(size) for size in weight.shape)].clone()
    narrow.tie_weights()
    batch = backbone_for(model).example(model, 2, 9)
    with torch.no_grad():
        found = supernet.subnet(supernet.topology.spec({"hidden": 20}, {}))(**batch).logits
        torch.testing.assert_close(found, narrow(**batch).logits)


@pytest.mark.parametrize("family", ["Bert", "Llama"])
def test_flops_and_parameters_of_a_narrow_stream_are_those_of_its_extraction(family: str) -> None:
    from torch.utils.flop_counter import FlopCounterMode

    model = sized("Bert", "ForSequenceClassification") if family == "Bert" else FAMILIES["Llama"].build("eager")
    backbone = with_hidden(model)
    supernet = SuperNet(model, backbone.topology(model))
    spec = specs_of(supernet.topology)[0]
    price = COSTS.build("flops").price(supernet, backbone, Workload(2, 7))
    with (
        FlopCounterMode(display=False) as counter,
        torch.no_grad(),
        torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH),
    ):
        supernet.extract(spec)(**backbone.example(model, 2, 7))
    assert price(spec) == counter.get_total_flops()


@pytest.mark.parametrize(("family", "is_stock"), [("Bert", False), ("Llama", True)])
def test_an_export_of_a_narrow_stream_loads_to_the_same_outputs(tmp_path, family: str, is_stock: bool) -> None:
    model = sized("Bert", "ForSequenceClassification") if family == "Bert" else FAMILIES["Llama"].build("sdpa")
    backbone = with_hidden(model)
    supernet = SuperNet(model, backbone.topology(model))
    spec = specs_of(supernet.topology)[0]
    batch = backbone.example(model, 2, 9)
    assert export(supernet, spec, None, batch, tmp_path / "out") is is_stock
    with torch.no_grad():
        torch.testing.assert_close(from_pretrained(tmp_path / "out")(**batch).logits, supernet.subnet(spec)(**batch).logits)


@pytest.mark.parametrize("scorer", [ActivationNorm(), FirstOrder(), Magnitude()], ids=lambda scorer: type(scorer).__name__)
def test_units_of_the_stream_are_scored_and_a_silent_one_comes_last(bert, batches, scorer) -> None:
    backbone = with_hidden(bert)
    supernet = SuperNet(bert, backbone.topology(bert))
    for part in supernet.topology.by_name["hidden"].slices:
        if part.reads:
            bert.get_parameter(part.parameter).data.narrow(part.dim, 5, 1).zero_()
    scores = scorer(supernet, batches)
    assert scores["hidden"].shape == (32,)
    assert scores["hidden"].argmin() == 5
    order = Sort()(supernet.topology, scores)
    assert order.orders["hidden"][-1] == 5


@pytest.mark.parametrize("term", [HiddenMSE, EmbeddingMSE])
def test_distilling_a_narrow_stream_is_refused_in_one_line_or_compares_its_first_units(bert, batch, term) -> None:
    topology = with_hidden(bert).topology(bert)
    supernet = SuperNet(bert, topology)
    narrow = topology.spec({"hidden": 20}, {})
    student, teacher = (
        forward(supernet.subnet(spec), topology, spec, batch, hidden=True, labels=False) for spec in (narrow, topology.full)
    )
    with pytest.raises(SpaceError, match=r"20 wide and the teacher's 32: .*width = \"first\""):
        term()(student, teacher, batch)
    loss = term(width="first")(student, teacher, batch)
    states, whole = student.hidden["encoder"], teacher.hidden["encoder"]
    assert loss > 0
    if term is EmbeddingMSE:
        mask = batch["attention_mask"].float()
        square = (states.embeddings - whole.embeddings[..., :20]).square().mean(-1)
        torch.testing.assert_close(loss, ((square * mask).sum(1) / mask.sum(1)).mean())
