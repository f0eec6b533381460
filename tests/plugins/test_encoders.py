"""The laws on tiny models of the text encoders beyond the BERT family."""

from __future__ import annotations

import pytest

from slimformer import backbone_for, testing
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
