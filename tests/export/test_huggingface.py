"""Exported folders: stock ones where transformers can say the shapes, else with one file of code; equal outputs always."""

import json
import os
import shutil
import subprocess
import sys

import pytest
import torch
import transformers
from safetensors.torch import load_file

import slimformer
from slimformer import SuperNet
from slimformer.backbones import backbone_for
from slimformer.errors import ExportError, RunError
from slimformer.export import export, from_pretrained
from tests.conftest import build_tiny, build_tokenizer

LABELS = {0: "no", 1: "yes", 2: "maybe"}
AUTO = transformers.AutoModelForSequenceClassification


def net(family, head="ForSequenceClassification"):
    """A super-network with three labels that have names."""
    model = build_tiny(family, head, num_labels=3, id2label=LABELS, label2id={name: i for i, name in LABELS.items()})
    return SuperNet(model, backbone_for(model).topology(model))


@pytest.fixture(params=["Bert", "Roberta"])
def family(request):
    return request.param


@pytest.fixture
def inputs(batch):
    return {name: tensor for name, tensor in batch.items() if name != "labels"}


def stock_specs(topology):
    ffn = {g.name: 16 for g in topology.groups if g.axis == "width.ffn"}
    blocks = {"encoder": (1, 3)}
    return {
        "full": topology.full,
        "depth": topology.spec({}, blocks),
        "ffn": topology.spec(ffn, {}),
        "both": topology.spec(ffn, blocks),
    }


def narrow_specs(topology):
    heads = [g.name for g in topology.groups if g.axis == "width.heads"]
    ffn = [g.name for g in topology.groups if g.axis == "width.ffn"]
    mixed = dict(zip(heads, (4, 1, 2, 3), strict=True)) | dict(zip(ffn, (64, 1, 17, 40), strict=True))
    return {
        "heads": topology.spec(dict.fromkeys(heads, 2), {}),
        "layers": topology.spec(mixed, {}),
        "layers and depth": topology.spec(mixed, {"encoder": (0, 2, 3)}),
        "ffn by layer": topology.spec(dict(zip(ffn, (8, 16, 24, 32), strict=True)), {"encoder": (0, 3)}),
        "least": topology.spec(dict.fromkeys(heads + ffn, 1), {"encoder": (2,)}),
    }


def logits(model, inputs):
    with torch.no_grad():
        return model(**inputs).logits


@pytest.mark.parametrize("kind", ["full", "depth", "ffn", "both"])
def test_a_sub_network_of_stock_shapes_is_a_stock_folder_with_the_same_bits(family, kind, inputs, tmp_path):
    supernet = net(family)
    spec = stock_specs(supernet.topology)[kind]
    assert export(supernet, spec, build_tokenizer(), inputs, tmp_path / "out") is True
    loaded = AUTO.from_pretrained(tmp_path / "out").eval()
    assert type(loaded) is type(supernet.model)
    assert torch.equal(logits(loaded, inputs), logits(supernet.subnet(spec), inputs))
    assert not list((tmp_path / "out").glob("*.py"))
    assert "auto_map" not in json.loads((tmp_path / "out" / "config.json").read_text())


def test_the_full_size_export_is_the_original(family, inputs, tmp_path):
    supernet = net(family)
    export(supernet, supernet.topology.full, None, inputs, tmp_path / "out")
    weights = load_file(tmp_path / "out" / "model.safetensors")
    assert {name: value.shape for name, value in weights.items()} == {
        n: p.shape for n, p in supernet.model.state_dict().items()
    }
    assert all(torch.equal(weights[name], value) for name, value in supernet.model.state_dict().items())


def test_a_stock_folder_holds_as_many_numbers_as_the_sub_network(family, inputs, tmp_path):
    supernet = net(family)
    spec = stock_specs(supernet.topology)["both"]
    export(supernet, spec, None, inputs, tmp_path / "out")
    stored = sum(tensor.numel() for tensor in load_file(tmp_path / "out" / "model.safetensors").values())
    assert stored == sum(p.numel() for p in supernet.extract(spec).parameters())
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert (config["num_hidden_layers"], config["intermediate_size"]) == (2, 16)


@pytest.mark.parametrize("kind", ["heads", "layers", "layers and depth", "ffn by layer", "least"])
def test_a_narrower_sub_network_loads_with_the_code_in_its_folder_to_the_same_outputs(family, kind, inputs, tmp_path):
    supernet = net(family)
    spec = narrow_specs(supernet.topology)[kind]
    assert export(supernet, spec, None, inputs, tmp_path / "out") is False
    wanted = logits(supernet.subnet(spec), inputs)
    assert torch.equal(logits(AUTO.from_pretrained(tmp_path / "out", trust_remote_code=True).eval(), inputs), wanted)
    assert torch.equal(logits(from_pretrained(tmp_path / "out"), inputs), wanted)
    assert torch.equal(logits(slimformer.from_pretrained(str(tmp_path / "out")), inputs), wanted)


@pytest.mark.parametrize("kind", ["heads", "layers"])
def test_a_narrower_sub_network_fails_loudly_without_trust(family, kind, inputs, tmp_path):
    supernet = net(family)
    export(supernet, narrow_specs(supernet.topology)[kind], None, inputs, tmp_path / "out")
    with pytest.raises((RuntimeError, ValueError)):
        AUTO.from_pretrained(tmp_path / "out", trust_remote_code=False)


FRESH = """
import sys
class NoSlimformer:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0].startswith("slimformer"):
            raise ImportError("slimformer cannot be imported here")
sys.meta_path.insert(0, NoSlimformer())
import torch, transformers
for folder in sys.argv[1:]:
    trust = "modeling_slimformer.py" in __import__("os").listdir(folder)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(folder, trust_remote_code=trust).eval()
    inputs, wanted = torch.load(f"{folder}/wanted.pt")
    with torch.no_grad():
        assert torch.equal(model(**inputs).logits, wanted), folder
    assert model.config.id2label == {0: "no", 1: "yes", 2: "maybe"}, folder
    model.save_pretrained(folder + "-again")
    again = transformers.AutoModelForSequenceClassification.from_pretrained(folder + "-again", trust_remote_code=trust).eval()
    with torch.no_grad():
        assert torch.equal(again(**inputs).logits, wanted), folder
assert not [name for name in sys.modules if name.startswith("slimformer")]
print("equal", len(sys.argv) - 1)
"""


def test_every_kind_of_folder_loads_and_saves_again_in_a_fresh_process_where_slimformer_cannot_be_imported(inputs, tmp_path):
    folders = []
    for family in ("Bert", "Roberta"):
        supernet = net(family)
        for kind, spec in (stock_specs(supernet.topology) | narrow_specs(supernet.topology)).items():
            folder = tmp_path / f"{family}-{kind.replace(' ', '-')}"
            export(supernet, spec, None, inputs, folder)
            torch.save((inputs, logits(supernet.subnet(spec), inputs)), folder / "wanted.pt")
            folders.append(str(folder))
    environment = os.environ | {"HF_MODULES_CACHE": str(tmp_path / "modules"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-I", "-c", FRESH, *folders]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == f"equal {len(folders)}"


def test_another_head_is_exported_under_its_own_auto_class(batch, tmp_path):
    inputs = {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"]}
    supernet = net("Bert", "ForTokenClassification")
    spec = narrow_specs(supernet.topology)["layers"]
    export(supernet, spec, None, inputs, tmp_path / "out")
    loaded = transformers.AutoModelForTokenClassification.from_pretrained(tmp_path / "out", trust_remote_code=True).eval()
    assert torch.equal(logits(loaded, inputs), logits(supernet.subnet(spec), inputs))


@pytest.mark.parametrize("kind", ["full", "heads"])
def test_labels_and_tokenizer_come_along(kind, inputs, tmp_path):
    supernet = net("Bert")
    spec = (stock_specs(supernet.topology) | narrow_specs(supernet.topology))[kind]
    export(supernet, spec, build_tokenizer(), inputs, tmp_path / "out")
    assert from_pretrained(tmp_path / "out").config.id2label == LABELS
    text = "the film is good"
    assert (
        transformers.AutoTokenizer.from_pretrained(tmp_path / "out")(text)["input_ids"] == build_tokenizer()(text)["input_ids"]
    )


def test_the_spec_is_in_the_folder(inputs, tmp_path):
    supernet = net("Bert")
    spec = narrow_specs(supernet.topology)["layers and depth"]
    export(supernet, spec, None, inputs, tmp_path / "out")
    assert type(spec).from_json(json.loads((tmp_path / "out" / "subnet.json").read_text())) == spec


def test_exporting_leaves_no_trace_in_the_super_network(inputs, tmp_path):
    supernet = net("Bert")
    before = {name: value.clone() for name, value in supernet.model.state_dict().items()}
    config = supernet.model.config.to_dict()
    export(supernet, narrow_specs(supernet.topology)["layers and depth"], None, inputs, tmp_path / "out")
    assert supernet.model.config.to_dict() == config
    assert all(torch.equal(value, before[name]) for name, value in supernet.model.state_dict().items())


def save_other_weights(self, folder, **options):
    """Saves a classifier bias that the model does not have."""
    with torch.no_grad():
        self.classifier.bias += 1
        transformers.PreTrainedModel.save_pretrained(self, folder, **options)
        self.classifier.bias -= 1


@pytest.mark.parametrize("existed", [False, True])
def test_nothing_is_written_where_the_folder_would_load_to_other_outputs(inputs, tmp_path, monkeypatch, existed):
    supernet = net("Bert")
    if existed:
        export(supernet, supernet.topology.full, None, inputs, tmp_path / "out")
    before = {file.name: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
    monkeypatch.setattr(transformers.BertForSequenceClassification, "save_pretrained", save_other_weights)
    with pytest.raises(ExportError, match=r"logits differ by .*; nothing was written"):
        export(supernet, supernet.topology.full, None, inputs, tmp_path / "out")
    assert {file.name: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()} == before


def test_a_place_that_cannot_be_written_is_one_line(inputs, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(RunError, match="could not write") as caught:
        export(net("Bert"), net("Bert").topology.full, None, inputs, tmp_path / "file" / "out")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("damage", ["missing", "empty", "config", "weights", "architecture"])
def test_a_folder_that_is_no_export_is_one_line_that_says_what_to_give(damage, inputs, tmp_path):
    supernet = net("Bert")
    out = tmp_path / "out"
    export(supernet, supernet.topology.full, None, inputs, out)
    config = out / "config.json"
    if damage in ("missing", "empty"):
        shutil.rmtree(out)
    if damage == "empty":
        out.mkdir()
    if damage == "config":
        config.write_text("{")
    if damage == "weights":
        (out / "model.safetensors").write_bytes((out / "model.safetensors").read_bytes()[:100])
    if damage == "architecture":
        config.write_text(json.dumps(json.loads(config.read_text()) | {"architectures": ["BertForNothing"]}))
    with pytest.raises(
        ExportError, match=r"out holds no exported model \(.+\): give a folder made by 'slimformer export'"
    ) as caught:
        from_pretrained(out)
    assert "\n" not in str(caught.value)
