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
from slimformer.backbones import BlockStack, Slice, Topology, UnitGroup, backbone_for
from slimformer.errors import ExportError, RunError
from slimformer.export import export, from_pretrained
from slimformer.export.check import difference, run
from slimformer.export.huggingface import dtype_of
from slimformer.supernet.configuration import auto_classes
from slimformer.testing import Case, random_specs
from tests.conftest import build_tiny, build_tokenizer
from tests.families import FAMILIES, SWIN_SIZES, TIMM_SIZES, build_wrapped_timm, few_specs, scatter_

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


def test_a_body_without_a_head_loads_into_its_own_class_and_its_auto_class(batch, tmp_path):
    ids = {"input_ids": batch["input_ids"]}
    model = build_tiny("Bert", "Model")
    supernet = SuperNet(model, backbone_for(model).topology(model))
    spec = narrow_specs(supernet.topology)["layers and depth"]
    export(supernet, spec, None, ids, tmp_path / "out")
    with torch.no_grad():
        wanted = supernet.subnet(spec)(**ids)
        for loaded in (
            from_pretrained(tmp_path / "out"),
            transformers.AutoModel.from_pretrained(tmp_path / "out", trust_remote_code=True).eval(),
        ):
            found = loaded(**ids)
            assert torch.equal(found.last_hidden_state, wanted.last_hidden_state)
            assert torch.equal(found.pooler_output, wanted.pooler_output)


@pytest.mark.parametrize("name", ["beitv2_base_patch16_224", "eva02_tiny_patch14_224", "swin_tiny_patch4_window7_224"])
def test_fewer_blocks_of_a_wrapped_timm_model_are_exported(name, tmp_path):
    sizes = {key: value for key, value in (SWIN_SIZES if "swin" in name else TIMM_SIZES).items() if key != "num_classes"}
    model = build_wrapped_timm(name, "sdpa", **sizes | ({"init_values": 1.0} if "beit" in name else {}))
    supernet = SuperNet(model, backbone_for(model).topology(model))
    spec = supernet.topology.spec({}, {stack.name: (stack.num_blocks - 1,) for stack in supernet.topology.stacks})
    example = {"pixel_values": torch.randn(2, *backbone_for(model).example(model, 1, 1)["pixel_values"].shape[1:])}
    is_stock = export(supernet, spec, None, example, tmp_path / "out")
    assert is_stock is ("swin" not in name)  # the arguments of a Swin name no blocks, and every second one is of another kind
    loaded = transformers.AutoModelForImageClassification.from_pretrained(tmp_path / "out", trust_remote_code=True).eval()
    torch.testing.assert_close(logits(loaded, example), logits(supernet.subnet(spec), example))


def test_a_class_whose_weights_are_renamed_when_saved_keeps_its_name(tmp_path):
    config = transformers.GPTNeoXConfig(
        hidden_size=32, num_attention_heads=4, num_hidden_layers=2, intermediate_size=48, vocab_size=60, bos_token_id=0,
        eos_token_id=0,
    )  # fmt: skip
    model = transformers.GPTNeoXForCausalLM(config).eval()
    slices = [Slice("gpt_neox.layers.0.mlp.dense_h_to_4h.weight", 0), Slice("gpt_neox.layers.0.mlp.dense_h_to_4h.bias", 0)]
    slices.append(Slice("gpt_neox.layers.0.mlp.dense_4h_to_h.weight", 1))
    supernet = SuperNet(model, Topology((UnitGroup("ffn", "width.ffn", 48, tuple(slices)),), ()))
    spec, ids = supernet.topology.spec({"ffn": 16}, {}), {"input_ids": torch.arange(12).view(2, 6)}
    export(supernet, spec, None, ids, tmp_path / "out")
    loaded = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out", trust_remote_code=True).eval()
    assert torch.equal(logits(loaded, ids), logits(supernet.subnet(spec), ids))


def test_a_stack_that_no_field_of_the_configuration_counts_loses_its_blocks_all_the_same(tmp_path):
    tower = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 48}
    config = transformers.SiglipConfig(
        vision_config=tower | {"image_size": 12, "patch_size": 4},
        text_config=tower | {"vocab_size": 60, "max_position_embeddings": 10},
    )
    model = scatter_(transformers.SiglipModel(config))
    path = "text_model.encoder.layers"
    supernet = SuperNet(model, Topology((), (BlockStack("text", "depth", path, 3, config_field=""),)))
    spec = supernet.topology.spec({}, {"text": (0, 2)})
    inputs = {"input_ids": torch.randint(3, 60, (3, 10)), "pixel_values": torch.randn(3, 3, 12, 12)}
    export(supernet, spec, None, inputs, tmp_path / "out")
    loaded = from_pretrained(tmp_path / "out")
    assert len(loaded.get_submodule(path)) == 2
    with torch.no_grad():
        found, wanted = loaded(**inputs).logits_per_image, supernet.subnet(spec)(**inputs).logits_per_image
    assert torch.equal(found, wanted)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("kind", ["both", "heads"])
def test_the_number_type_of_an_export_can_be_chosen(dtype, kind, inputs, tmp_path):
    supernet = net("Bert")
    spec = (stock_specs(supernet.topology) | narrow_specs(supernet.topology))[kind]
    export(supernet, spec, None, inputs, tmp_path / "out", dtype)
    assert {tensor.dtype for tensor in load_file(tmp_path / "out" / "model.safetensors").values()} == {dtype}
    assert from_pretrained(tmp_path / "out").dtype == dtype
    assert next(supernet.parameters()).dtype == torch.float32


@pytest.mark.parametrize("family", ["BERT", "Llama", "Gemma-3", "ViT", "Qwen3"])
def test_a_super_network_in_half_precision_is_exported_as_it_is(family, tmp_path):
    model = FAMILIES[family].build("eager").to(torch.bfloat16)
    backbone = backbone_for(model)
    supernet = SuperNet(model, backbone.topology(model))
    export(supernet, few_specs(model)[2], None, backbone.example(model, 2, 8), tmp_path / "out")
    assert from_pretrained(tmp_path / "out").dtype == torch.bfloat16


def test_the_number_type_is_the_named_one_else_the_checkpoints(supernet):
    assert dtype_of(supernet) is None
    supernet.model.config.checkpoint_dtype = "float16"
    assert dtype_of(supernet) is torch.float16
    assert dtype_of(supernet, "float32") is torch.float32
    with pytest.raises(ExportError, match="no number type 'int8' for exports: write one of float32, float16, bfloat16"):
        dtype_of(supernet, "int8")


def test_an_export_says_nothing_of_the_number_type_of_the_checkpoint(inputs, tmp_path):
    supernet = net("Bert")
    supernet.model.config.checkpoint_dtype = "float16"
    export(supernet, supernet.topology.full, None, inputs, tmp_path / "out", dtype_of(supernet))
    assert "checkpoint_dtype" not in json.loads((tmp_path / "out" / "config.json").read_text())
    assert supernet.model.config.checkpoint_dtype == "float16"


def test_a_body_whose_weights_are_renamed_when_saved_loads_with_the_code_in_its_folder(tmp_path):
    config = transformers.ViTConfig(
        hidden_size=32, num_attention_heads=4, num_hidden_layers=2, intermediate_size=48, image_size=12, patch_size=4
    )
    model = scatter_(transformers.ViTModel(config))
    supernet = SuperNet(model, backbone_for(model).topology(model))
    spec, images = supernet.topology.spec({"encoder.0.heads": 2}, {}), {"pixel_values": torch.randn(2, 3, 12, 12)}
    export(supernet, spec, None, images, tmp_path / "out")
    with torch.no_grad():
        wanted = supernet.subnet(spec)(**images)
        for loaded in (
            from_pretrained(tmp_path / "out"),
            transformers.AutoModel.from_pretrained(tmp_path / "out", trust_remote_code=True).eval(),
        ):
            assert torch.equal(loaded(**images).last_hidden_state, wanted.last_hidden_state)


@pytest.mark.parametrize("family", ["Mixtral", "T5", "CLIP", "ModernBERT"])
def test_a_stranger_loads_and_saves_what_slimformer_exported(family, tmp_path):
    model = FAMILIES[family].build("eager")
    supernet = SuperNet(model, backbone_for(model).topology(model))
    spec = random_specs(supernet.topology, 1, torch.Generator().manual_seed(3))[0]
    example = Case.of(backbone_for(model), model, specs=[spec]).batch
    export(supernet, spec, None, example, tmp_path / "out")
    options = {"attn_implementation": "eager", "trust_remote_code": True}
    experts = getattr(model.config, "_experts_implementation", None)
    options |= {"experts_implementation": experts} if experts else {}
    auto = getattr(transformers, auto_classes(model)[0])
    loaded = auto.from_pretrained(tmp_path / "out", **options).eval()
    loaded.save_pretrained(tmp_path / "again")
    again = auto.from_pretrained(tmp_path / "again", **options).eval()
    wanted = run(supernet.subnet(spec), example)
    assert difference(wanted, run(loaded, example)) == difference(wanted, run(again, example)) == ""
