"""What is special about the text encoders beyond the BERT family; the laws are in tests/laws."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from slimformer import SuperNet, testing
from slimformer.backbones import backbone_for
from slimformer.checkpoints import load_with_head
from slimformer.errors import CheckpointError
from slimformer.export import export, from_pretrained
from slimformer.rewiring import Shuffle
from tests.families import BERT_SIZES, CLASSIFIER, DEBERTA_SIZES, FAMILIES, build, few_specs

AUTO = f"AutoModel{CLASSIFIER}"


def check(model) -> None:
    testing.check_backbone(backbone_for(model), model, specs=few_specs(model))


def test_deberta_with_position_layers_of_its_own_keeps_the_laws() -> None:
    check(build("DebertaV2", CLASSIFIER, "eager", **DEBERTA_SIZES | {"share_att_key": False}))


def test_deberta_with_a_convolution_has_no_depth_axis() -> None:
    model = build("DebertaV2", CLASSIFIER, "eager", **BERT_SIZES, conv_kernel_size=3, relative_attention=True)
    assert backbone_for(model).topology(model).stacks == ()
    check(model)


def test_albert_whose_blocks_share_their_weights_has_width_only() -> None:
    model = FAMILIES["ALBERT"].build("eager")
    assert backbone_for(model).topology(model).axes == ("width.heads", "width.ffn")


@pytest.mark.parametrize(("attention", "got"), [("auto", "eager"), ("eager", "eager")])
def test_a_model_without_sdpa_is_loaded_with_what_it_has(tmp_path: Path, attention: str, got: str) -> None:
    FAMILIES["MPNet"].build("eager").save_pretrained(tmp_path)
    loaded: Any = load_with_head(AUTO, str(tmp_path), attention)
    assert loaded.config._attn_implementation == got


def test_sdpa_for_a_model_without_it_is_an_error_that_names_auto(tmp_path: Path) -> None:
    FAMILIES["MPNet"].build("eager").save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match=r'has no sdpa attention: write model\.attention = "auto"'):
        load_with_head(AUTO, str(tmp_path), "sdpa")


def test_auto_is_sdpa_where_the_model_has_it(tmp_path: Path) -> None:
    FAMILIES["BERT"].build("eager").save_pretrained(tmp_path)
    loaded: Any = load_with_head(AUTO, str(tmp_path), "auto")
    assert loaded.config._attn_implementation == "sdpa"


@pytest.fixture
def rewired_mpnet():
    """A super-network whose blocks order their heads in different ways, and what it computed before."""
    model = FAMILIES["MPNet"].build("eager")
    supernet = SuperNet(model, backbone_for(model).topology(model))
    batch = testing.random_batch(backbone_for(model), model, torch.Generator().manual_seed(0))
    with torch.no_grad():
        before = model(**batch).logits
    Shuffle(0)(supernet.topology, {}).apply_(supernet)
    return supernet, batch, before


def test_each_mpnet_block_picks_its_heads_from_the_bias_they_share(rewired_mpnet) -> None:
    supernet, batch, before = rewired_mpnet
    orders = [layer.attention.position_bias_units.tolist() for layer in supernet.model.mpnet.encoder.layer]
    assert len({tuple(order) for order in orders}) > 1
    with torch.no_grad():
        torch.testing.assert_close(supernet.model(**batch).logits, before, rtol=1e-4, atol=1e-4)
    assert not [name for name in supernet.state_dict() if name.endswith("_units")]


def test_a_rewired_mpnet_that_is_saved_and_loaded_is_the_same_super_network(rewired_mpnet, tmp_path) -> None:
    supernet, batch, _ = rewired_mpnet
    supernet.model.save_pretrained(tmp_path)
    loaded = type(supernet.model).from_pretrained(tmp_path, attn_implementation="eager").eval()
    again = SuperNet(loaded, backbone_for(loaded).topology(loaded))
    spec = testing.random_specs(supernet.topology, 1, torch.Generator().manual_seed(0))[0]
    with torch.no_grad():
        for one in (spec, supernet.topology.full):
            assert torch.equal(again.subnet(one)(**batch).logits, supernet.subnet(one)(**batch).logits)


def test_an_extracted_mpnet_does_not_follow_a_later_rewiring(rewired_mpnet) -> None:
    supernet, batch, _ = rewired_mpnet
    spec = testing.random_specs(supernet.topology, 1, torch.Generator().manual_seed(0))[0]
    network = supernet.extract(spec)
    with torch.no_grad():
        before = network(**batch).logits
        Shuffle(1)(supernet.topology, {}).apply_(supernet)
        assert torch.equal(network(**batch).logits, before)


@pytest.mark.parametrize("is_full", [True, False])
def test_a_rewired_mpnet_is_exported_as_stock_with_all_heads_else_with_their_places(rewired_mpnet, tmp_path, is_full) -> None:
    supernet, batch, _ = rewired_mpnet
    some = testing.random_specs(supernet.topology, 1, torch.Generator().manual_seed(0))[0]
    spec = supernet.topology.full if is_full else some
    assert export(supernet, spec, None, batch, tmp_path / "out") is is_full
    with torch.no_grad():
        torch.testing.assert_close(from_pretrained(tmp_path / "out")(**batch).logits, supernet.subnet(spec)(**batch).logits)


def test_modernbert_with_fused_layers_of_mixed_widths_is_exported(tmp_path) -> None:
    model = FAMILIES["ModernBERT"].build("sdpa")
    supernet = SuperNet(model, backbone_for(model).topology(model))
    batch = testing.random_batch(backbone_for(model), model, torch.Generator().manual_seed(0))
    spec = supernet.topology.spec({"encoder.0.heads": 2, "encoder.1.ffn": 7}, {"encoder": (0, 1)})
    assert not export(supernet, spec, None, batch, tmp_path / "out")


def test_modernbert_without_its_first_block_whose_norm_is_missing_is_exported(tmp_path) -> None:
    model = FAMILIES["ModernBERT"].build("sdpa")
    supernet = SuperNet(model, backbone_for(model).topology(model))
    batch = testing.random_batch(backbone_for(model), model, torch.Generator().manual_seed(0))
    for units, kept in (({"encoder.1.ffn": 7}, (1, 2)), ({}, (2,))):
        spec = supernet.topology.spec(units, {"encoder": kept})
        assert not export(supernet, spec, None, batch, tmp_path / "out")
        found = from_pretrained(tmp_path / "out")
        with torch.no_grad():
            torch.testing.assert_close(found(**batch).logits, supernet.subnet(spec)(**batch).logits)
