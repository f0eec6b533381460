"""Loading is strict: what is missing, unexpected or misshapen is named, and nothing is left at a random start."""

from __future__ import annotations

import json

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import nn

from slimformer import SuperNet, from_pretrained
from slimformer.backbones import Slice, Topology, UnitGroup, backbone_for
from slimformer.errors import ExportError
from slimformer.export import export, load, load_into
from tests.conftest import build_tiny
from tests.families import FAMILIES


@pytest.fixture(params=["stock", "narrow"])
def folder(request, supernet, batch, tmp_path):
    """An exported folder, of the stock class or of a slim one."""
    units = {"encoder.0.heads": 2} if request.param == "narrow" else {}
    inputs = {"input_ids": batch["input_ids"]}
    export(supernet, supernet.topology.spec(units, {}), None, inputs, tmp_path / "out")
    return tmp_path / "out"


def change_(folder, change):
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


KEY = "bert.encoder.layer.1.output.dense.weight"


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda weights: weights.pop(KEY), f"missing: {KEY}"),
        (lambda weights: weights.update({"bert.encoder.more": torch.ones(1)}), "unexpected: bert.encoder.more"),
        (lambda weights: weights.update({KEY: weights[KEY][:, :7].clone()}), f"misshapen: {KEY}"),
    ],
)
def test_weights_that_are_not_the_models_are_refused_by_name(folder, change, complaint):
    change_(folder, change)
    with pytest.raises(ExportError, match=complaint):
        from_pretrained(folder)


def test_more_blocks_in_the_configuration_than_in_the_weights_are_refused(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 5}))
    with pytest.raises(ExportError, match=r"missing: bert\.encoder\.layer\.4\..* and 13 more"):
        from_pretrained(folder)


def test_poisoned_loading_leaves_nan_in_whatever_no_file_holds(folder, monkeypatch):
    change_(folder, lambda weights: weights.pop(KEY))
    monkeypatch.setattr(load, "check_complete", lambda report: None)
    model = from_pretrained(folder, poisoned=True)
    assert model.get_parameter(KEY).isnan().all()
    assert not any(tensor.isnan().any() for name, tensor in model.state_dict().items() if name != KEY)


class TwoHeads(transformers.BertPreTrainedModel):
    """A class of one's own, which transformers does not have."""

    def __init__(self, config):
        super().__init__(config)
        self.bert = transformers.BertModel(config, add_pooling_layer=False)
        self.topic, self.mood = nn.Linear(config.hidden_size, 3), nn.Linear(config.hidden_size, 2)
        self.post_init()

    def forward(self, input_ids, **options):
        first = self.bert(input_ids, **options).last_hidden_state[:, 0]
        return {"topic": self.topic(first), "mood": self.mood(first)}


@pytest.mark.parametrize("units", [{}, {"encoder.0.heads": 2}])
def test_a_class_of_ones_own_is_exported_and_loaded_by_giving_it(units, batch, tmp_path):
    model = TwoHeads(build_tiny("Bert").config).eval()
    supernet = SuperNet(model, backbone_for(model).topology(model))
    spec, ids = supernet.topology.spec(units, {"encoder": (0, 3)}), batch["input_ids"]
    export(supernet, spec, None, {"input_ids": ids}, tmp_path / "out")
    with torch.no_grad():
        found, wanted = from_pretrained(tmp_path / "out", TwoHeads)(ids), supernet.subnet(spec)(ids)
    assert torch.equal(found["topic"], wanted["topic"])
    with pytest.raises(
        ExportError, match=r"no class 'TwoHeads'; pass the model's own class, as in from_pretrained\(folder, TwoH"
    ):
        from_pretrained(tmp_path / "out")


class Plain(nn.Module):
    """No model of transformers: two layers, the second tied to a third."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(6, 8), nn.Linear(8, 6)
        self.same = self.down

    def forward(self, x):
        return self.same(torch.relu(self.up(x)))


def plain_supernet():
    slices = (Slice("up.weight", 0), Slice("up.bias", 0), Slice("down.weight", 1))
    return SuperNet(Plain().eval(), Topology((UnitGroup("ffn", "width.ffn", 8, slices),), ()))


def test_a_plain_module_is_a_file_of_weights_and_a_spec(tmp_path):
    supernet, x = plain_supernet(), torch.randn(3, 6)
    spec = supernet.topology.spec({"ffn": 5}, {})
    assert export(supernet, spec, None, {"x": x}, tmp_path / "out") is False
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == ["model.safetensors", "subnet.json"]
    fresh = plain_supernet()
    before = fresh.model.up.weight.clone()
    with torch.no_grad():
        assert torch.equal(load_into(fresh, tmp_path / "out")(x), supernet.subnet(spec)(x))
    assert torch.equal(fresh.model.up.weight, before)


@pytest.mark.parametrize("change", ["missing", "unexpected", "spec"])
def test_a_plain_modules_folder_that_does_not_fit_is_refused(change, tmp_path):
    supernet = plain_supernet()
    export(supernet, supernet.topology.full, None, {"x": torch.randn(3, 6)}, tmp_path / "out")
    if change == "missing":
        change_(tmp_path / "out", lambda weights: weights.pop("up.bias"))
    if change == "unexpected":
        change_(tmp_path / "out", lambda weights: weights.update({"more": torch.ones(1)}))
    if change == "spec":
        (tmp_path / "out" / "subnet.json").write_text('{"units": {"ffn": 9}, "blocks": {}}')
    with pytest.raises(ExportError, match="holds no sub-network of this Plain") as caught:
        load_into(plain_supernet(), tmp_path / "out")
    assert "\n" not in str(caught.value)


def test_a_plain_timm_model_is_exported(tmp_path):
    model = FAMILIES["timm ViT"].build("sdpa")
    supernet = SuperNet(model, backbone_for(model).topology(model))
    spec = supernet.topology.spec({"encoder.0.heads": 2}, {"encoder": (0, 1)})
    example = backbone_for(model).example(model, 2, 1)
    export(supernet, spec, None, example, tmp_path / "out")
    fresh = SuperNet(FAMILIES["timm ViT"].build("sdpa"), supernet.topology)
    with torch.no_grad():
        assert torch.equal(load_into(fresh, tmp_path / "out")(**example), supernet.subnet(spec)(**example))
