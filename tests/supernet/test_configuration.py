"""What an extraction's configuration says: saved by its own class, it loads as the same function."""

from __future__ import annotations

import copy
import json
import pickle

import pytest
import torch
import transformers
from torch import nn

from slimformer import SuperNet, from_pretrained
from slimformer.backbones import backbone_for
from slimformer.supernet.nested import narrowed
from slimformer.testing import random_specs
from tests.conftest import build_tiny
from tests.families import FAMILIES

AUTO = transformers.AutoModelForSequenceClassification


@pytest.fixture
def heads(supernet):
    """Half of the heads: the stock class cannot be configured to it."""
    return supernet.topology.spec({f"encoder.{block}.heads": 2 for block in range(4)}, {})


@pytest.fixture
def neurons(supernet):
    """Half of the neurons and two blocks: the stock class can."""
    return supernet.topology.spec({f"encoder.{block}.ffn": 32 for block in (0, 3)}, {"encoder": (0, 3)})


def logits(model, batch):
    with torch.no_grad():
        return model(**batch).logits


def test_an_extraction_of_stock_shapes_has_them_in_its_configuration(supernet, neurons, batch, tmp_path):
    small = supernet.extract(neurons)
    assert type(small) is transformers.BertForSequenceClassification
    assert (small.config.intermediate_size, small.config.num_hidden_layers) == (32, 2)
    small.save_pretrained(tmp_path)
    assert torch.equal(logits(AUTO.from_pretrained(tmp_path).eval(), batch), logits(small, batch))


def test_a_narrower_extraction_saves_the_code_with_which_it_loads(supernet, heads, batch, tmp_path):
    small = supernet.extract(heads)
    assert isinstance(small, transformers.BertForSequenceClassification)
    small.save_pretrained(tmp_path)
    assert torch.equal(logits(AUTO.from_pretrained(tmp_path, trust_remote_code=True).eval(), batch), logits(small, batch))
    assert torch.equal(logits(from_pretrained(tmp_path), batch), logits(small, batch))
    assert torch.equal(logits(type(small).from_pretrained(tmp_path).eval(), batch), logits(small, batch))


def test_what_was_loaded_saves_its_code_again(supernet, heads, batch, tmp_path):
    supernet.extract(heads).save_pretrained(tmp_path / "one")
    from_pretrained(tmp_path / "one").save_pretrained(tmp_path / "two")
    again = AUTO.from_pretrained(tmp_path / "two", trust_remote_code=True).eval()
    assert torch.equal(logits(again, batch), logits(supernet.subnet(heads), batch))


def test_a_narrower_extraction_can_be_copied_and_pickled(supernet, heads, batch):
    small = supernet.extract(heads)
    for other in (copy.deepcopy(small), pickle.loads(pickle.dumps(small))):
        assert type(other) is type(small)
        assert torch.equal(logits(other, batch), logits(small, batch))


def test_extracting_leaves_the_super_networks_class_and_configuration_alone(supernet, heads, neurons):
    before = supernet.model.config.to_dict()
    for spec in (heads, neurons):
        supernet.extract(spec)
    assert type(supernet.model) is transformers.BertForSequenceClassification
    assert supernet.model.config.to_dict() == before


def test_sizes_that_a_configuration_forbids_stay_out_of_it(tmp_path):
    config = transformers.LlamaConfig(
        hidden_size=32, num_attention_heads=8, num_key_value_heads=4, head_dim=4, intermediate_size=48, num_hidden_layers=2,
        vocab_size=60, bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    model = transformers.LlamaForCausalLM(config).eval()
    supernet = SuperNet(model, backbone_for(model).topology(model))
    spec = supernet.topology.spec({f"decoder.{block}.heads": 3 for block in range(2)}, {})  # 6 query heads do not divide 32
    small = supernet.extract(spec)
    small.save_pretrained(tmp_path)
    ids = {"input_ids": torch.arange(5, 15).view(2, 5)}
    assert json.loads((tmp_path / "config.json").read_text())["num_attention_heads"] == 8
    torch.testing.assert_close(logits(from_pretrained(tmp_path), ids), logits(small, ids))


def test_a_backbone_that_names_its_stages_counts_them_anew(tmp_path):
    model = FAMILIES["DINOv2"].build("eager")
    supernet = SuperNet(model, backbone_for(model).topology(model))
    small = supernet.extract(supernet.topology.spec({}, {"encoder": (0, 2)}))
    assert small.config.stage_names == ["stem", "stage1", "stage2"]
    assert (small.config.out_indices, small.config.out_features) == ([2], ["stage2"])
    small.save_pretrained(tmp_path)
    assert transformers.AutoModelForImageClassification.from_pretrained(tmp_path).config.num_hidden_layers == 2


@pytest.mark.parametrize("kept", [(0,), (1,), (2,), (0, 2), (1, 2)])
def test_any_blocks_of_a_model_whose_blocks_differ_can_be_saved(kept, tmp_path):
    model = FAMILIES["ModernBERT"].build("eager")
    supernet = SuperNet(model, backbone_for(model).topology(model))
    small = supernet.extract(supernet.topology.spec({}, {"encoder": kept}))
    small.save_pretrained(tmp_path)
    ids = {"input_ids": torch.arange(5, 21).view(2, 8)}
    assert torch.equal(logits(from_pretrained(tmp_path, attention="eager"), ids), logits(small, ids))


@pytest.mark.parametrize("family", ["BERT", "ModernBERT", "MPNet", "Whisper", "timm ViT in transformers"])
def test_a_sub_network_can_be_made_elastic_again(family, tmp_path):
    model = FAMILIES[family].build("eager")
    first = SuperNet(model, backbone_for(model).topology(model))
    small = first.extract(random_specs(first.topology, 1, torch.Generator().manual_seed(3))[0])
    small.save_pretrained(tmp_path / "once")
    loaded = from_pretrained(tmp_path / "once", attention="eager")
    second = SuperNet(loaded, backbone_for(loaded).topology(loaded))
    spec = random_specs(second.topology, 1, torch.Generator().manual_seed(1))[0]
    smaller = second.extract(spec)
    smaller.save_pretrained(tmp_path / "twice")
    example = backbone_for(loaded).example(loaded, 2, 8)
    with torch.no_grad():
        wanted = second.subnet(spec)(**example)
        found = from_pretrained(tmp_path / "twice", attention="eager")(**example)
    torch.testing.assert_close(found.logits, wanted.logits, rtol=1e-4, atol=1e-4)
    fewer = sum(p.numel() for p in smaller.parameters())
    assert fewer < sum(p.numel() for p in small.parameters()) < sum(p.numel() for p in model.parameters())


def test_a_topology_is_narrowed_to_the_sizes_that_parameters_have():
    model = FAMILIES["GPT-2"].build("eager")
    supernet = SuperNet(model, backbone_for(model).topology(model))
    small = supernet.extract(supernet.topology.spec({"decoder.1.heads": 3}, {}))
    shapes = {name: parameter.shape for name, parameter in small.named_parameters()}
    group = narrowed(supernet.topology, shapes).by_name["decoder.1.heads"]
    assert group.num_units == 3
    assert [part.start for part in group.slices if part.parameter.endswith("c_attn.weight")] == [0, 24, 48]


def test_a_module_of_another_kind_stays_of_its_class():
    model = FAMILIES["timm ViT"].build("eager")
    supernet = SuperNet(model, backbone_for(model).topology(model))
    small = supernet.extract(supernet.topology.spec({"encoder.0.ffn": 8}, {}))
    assert type(small) is type(model)


class NeedsMore(transformers.BertPreTrainedModel):
    """A class that its configuration alone does not build."""

    def __init__(self, config, size):
        super().__init__(config)
        self.bert = transformers.BertModel(config, add_pooling_layer=False)
        self.head = nn.Linear(config.hidden_size, size)
        self.post_init()

    def forward(self, input_ids, **options):
        return self.head(self.bert(input_ids, **options).last_hidden_state)


def test_a_class_that_needs_more_than_a_configuration_can_still_be_extracted(batch):
    model = NeedsMore(build_tiny("Bert").config, 3).eval()
    supernet = SuperNet(model, backbone_for(model).topology(model))
    spec = supernet.topology.spec({"encoder.0.heads": 2}, {"encoder": (0, 2)})
    small, ids = supernet.extract(spec), batch["input_ids"]
    assert type(small) is NeedsMore
    with torch.no_grad():
        assert torch.equal(small(ids), supernet.subnet(spec)(ids))
