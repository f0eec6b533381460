"""The laws on tiny models of the text encoders beyond the BERT family."""

from __future__ import annotations

import pytest
import torch

from slimformer import SuperNet, backbone_for, testing
from slimformer.errors import ExportError
from slimformer.export import export, load
from slimformer.rewiring import Shuffle
from tests.families import BERT_SIZES, build

BOTH = pytest.mark.parametrize("attention", ["eager", "sdpa"])
CLASSIFIER = "ForSequenceClassification"


def check(model) -> None:
    testing.check_backbone(backbone_for(model), model)


@BOTH
def test_distilbert_keeps_the_laws(attention: str) -> None:
    sizes = {"dim": 32, "n_heads": 4, "hidden_dim": 48, "n_layers": 3, "vocab_size": 60, "max_position_embeddings": 40}
    check(build("DistilBert", CLASSIFIER, attention, **sizes))


def test_mpnet_keeps_the_laws() -> None:
    check(build("MPNet", CLASSIFIER, "eager", **BERT_SIZES))


@pytest.mark.parametrize("share", [True, False])
def test_deberta_keeps_the_laws(share: bool) -> None:
    attention = {"relative_attention": True, "pos_att_type": ["c2p", "p2c"], "share_att_key": share, "position_buckets": 8}
    check(build("DebertaV2", CLASSIFIER, "eager", **BERT_SIZES, **attention, norm_rel_ebd="layer_norm"))


def test_deberta_with_a_convolution_has_no_depth_axis() -> None:
    model = build("DebertaV2", CLASSIFIER, "eager", **BERT_SIZES, conv_kernel_size=3, relative_attention=True)
    assert backbone_for(model).topology(model).stacks == ()
    check(model)


@BOTH
def test_modernbert_keeps_the_laws(attention: str) -> None:
    ends = {"bos_token_id": 1, "eos_token_id": 2, "cls_token_id": 1, "sep_token_id": 2}
    check(build("ModernBert", CLASSIFIER, attention, **BERT_SIZES, **ends, local_attention=4))


@BOTH
def test_albert_keeps_the_laws_and_has_width_only(attention: str) -> None:
    model = build("Albert", CLASSIFIER, attention, **BERT_SIZES, embedding_size=16, num_hidden_groups=1)
    assert backbone_for(model).topology(model).axes == ("width.heads", "width.ffn")
    check(model)


@pytest.fixture
def rewired_mpnet():
    """A super-network whose blocks order their heads in different ways, and what it computed before."""
    model = build("MPNet", CLASSIFIER, "eager", **BERT_SIZES)
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


@pytest.mark.parametrize("is_full", [True, False])
def test_a_rewired_mpnet_is_exported_with_the_places_of_its_heads(rewired_mpnet, tmp_path, is_full: bool) -> None:
    supernet, batch, _ = rewired_mpnet
    some = testing.random_specs(supernet.topology, 1, torch.Generator().manual_seed(0))[0]
    spec = supernet.topology.full if is_full else some
    assert not export(supernet, spec, None, batch, tmp_path / "out")
    with torch.no_grad():
        torch.testing.assert_close(load(tmp_path / "out")(**batch).logits, supernet.subnet(spec)(**batch).logits)


def test_modernbert_with_fused_layers_of_mixed_widths_is_exported(tmp_path) -> None:
    ends = {"bos_token_id": 1, "eos_token_id": 2, "cls_token_id": 1, "sep_token_id": 2}
    model = build("ModernBert", CLASSIFIER, "sdpa", **BERT_SIZES, **ends, local_attention=4)
    supernet = SuperNet(model, backbone_for(model).topology(model))
    batch = testing.random_batch(backbone_for(model), model, torch.Generator().manual_seed(0))
    spec = supernet.topology.spec({"encoder.0.heads": 2, "encoder.1.ffn": 7}, {"encoder": (0, 1)})
    assert not export(supernet, spec, None, batch, tmp_path / "out")


def test_modernbert_without_its_first_block_whose_norm_is_missing_is_exported(tmp_path) -> None:
    ends = {"bos_token_id": 1, "eos_token_id": 2, "cls_token_id": 1, "sep_token_id": 2}
    model = build("ModernBert", CLASSIFIER, "sdpa", **BERT_SIZES, **ends, local_attention=4)
    supernet = SuperNet(model, backbone_for(model).topology(model))
    batch = testing.random_batch(backbone_for(model), model, torch.Generator().manual_seed(0))
    spec = supernet.topology.spec({"encoder.1.ffn": 7}, {"encoder": (1, 2)})
    assert not export(supernet, spec, None, batch, tmp_path / "out")
    with torch.no_grad():
        torch.testing.assert_close(load(tmp_path / "out")(**batch).logits, supernet.subnet(spec)(**batch).logits)
    with pytest.raises(ExportError, match=r"does not build 'model.layers.0.attn_norm' as this sub-network has it"):
        export(supernet, supernet.topology.spec({}, {"encoder": (2,)}), None, batch, tmp_path / "one")
