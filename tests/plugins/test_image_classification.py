"""Pictures from every kind of source, models of timm and transformers, and a whole run through the command line."""

from __future__ import annotations

import io
import json
import signal
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import load_file
from transformers import AutoModelForImageClassification, ViTConfig, ViTForImageClassification, ViTImageProcessor

from slimformer import SuperNet, testing
from slimformer.backbones import backbone_for
from slimformer.errors import CheckpointError, DataError
from slimformer.export import export
from slimformer.runs import metrics_log
from slimformer.tasks import evaluate
from slimformer_vision.augment import Augment, crop, flip
from slimformer_vision.image_classification import ImageClassification
from tests.families import scatter_
from tests.test_end_to_end import one_line, slimformer

NEW = "new:timm/vit_tiny_patch16_224"
MODEL = {"img_size": 8, "patch_size": 4, "embed_dim": 32, "depth": 3, "num_heads": 4, "mlp_ratio": 2.0}
CONFIG = {"model_args": MODEL, "pretrained_cfg": {"crop_pct": 1.0}}


def digits(**options: Any) -> ImageClassification:
    return ImageClassification(**{"data": "digits", "config": CONFIG} | options)


def encoded(value: int, ending: str = "png") -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.full((6, 9, 3), value, dtype="uint8")).save(stream, format=ending)
    return stream.getvalue()


def test_digits_are_scikit_learns_as_the_models_input() -> None:
    from sklearn.datasets import load_digits

    data = digits(calibration_size=100, max_train=7).load(NEW)
    assert (len(data.train), len(data.calibration), len(data.evaluation["test"])) == (7, 100, 360)
    batch = data.collate(data.evaluation["test"][:2])
    expected = torch.tensor(load_digits().images[-360] * 15 / 255).float() * 2 - 1  # mean and deviation are 0.5
    torch.testing.assert_close(batch["pixel_values"][0], expected.expand(3, 8, 8), atol=2e-2, rtol=0)
    assert batch["labels"].tolist() == load_digits().target[-360:-358].tolist()


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same six pictures of two classes for training, and two to test, as a folder of classes and as parquet files."""
    classes, tables = tmp_path_factory.mktemp("classes"), tmp_path_factory.mktemp("tables")
    for split, count in (("train", 3), ("test", 1)):
        rows = [(encoded(100 * label + 10 * index), label) for label in (0, 1) for index in range(count)]
        for index, (image, label) in enumerate(rows):
            place = classes / split / ("cat", "dog")[label]
            place.mkdir(parents=True, exist_ok=True)
            (place / f"{index}.png").write_bytes(image)
        half = len(rows) // 2
        for number, part in enumerate((rows[:half], rows[half:])):
            table = pyarrow.table({"image": [image for image, _ in part], "label": [label for _, label in part]})
            pyarrow.parquet.write_table(table, tables / f"{split}-{number}-of-2.parquet")
    return {"classes": classes, "tables": tables}


def test_a_folder_of_classes_and_parquet_files_give_the_same_pictures(folders) -> None:
    options: dict[str, Any] = {"config": CONFIG, "calibration_size": 0}
    one = ImageClassification(str(folders["classes"]), **options).load(NEW)
    other = ImageClassification(str(folders["tables"]), classes=("cat", "dog"), **options).load(NEW)
    for split in ("train", "test"):
        a, b = one.collate(one.split(split)), other.collate(other.split(split))
        assert a["labels"].tolist() == b["labels"].tolist()
        assert torch.equal(a["pixel_values"], b["pixel_values"])
    assert a["pixel_values"].shape == (2, 3, 8, 8)


def test_a_data_set_of_the_hub_names_its_classes(monkeypatch) -> None:
    features = datasets.Features({"img": datasets.Image(), "label": datasets.ClassLabel(names=["cat", "dog"])})
    rows = [{"img": {"bytes": encoded(100 * label), "path": None}, "label": label} for label in (0, 1, 1)]
    part = datasets.Dataset.from_list(rows, features=features)
    monkeypatch.setattr(datasets, "load_dataset", lambda name: datasets.DatasetDict({"train": part, "test": part}))
    task = ImageClassification("some/pets", config=CONFIG)
    data, model = task.load(NEW), task.load_model(NEW, "sdpa")
    batch = data.collate(data.evaluation["test"])
    assert batch["labels"].tolist() == [0, 1, 1]
    torch.testing.assert_close(batch["pixel_values"][1], torch.full((3, 8, 8), 100 / 255 * 2 - 1))
    assert model.config.id2label == {0: "cat", 1: "dog"}


def test_without_an_evaluation_split_a_tenth_of_train_is_one(folders) -> None:
    data = ImageClassification(str(folders["classes"] / "train"), config=CONFIG).load(NEW)
    assert {name: len(split) for name, split in data.evaluation.items()} == {"validation": 1}
    assert len(data.train) == 5


def test_a_timm_model_in_its_wrapper_keeps_the_laws() -> None:
    model = scatter_(digits().load_model(NEW, "sdpa"))
    backbone = backbone_for(model)
    specs = testing.random_specs(backbone.topology(model), 3, torch.Generator().manual_seed(1))
    testing.check_backbone(backbone, model, specs=specs)


@pytest.mark.parametrize("units", [1.0, 0.5])
def test_an_exported_timm_model_loads_with_transformers_alone(tmp_path, units) -> None:
    model = scatter_(digits().load_model(NEW, "sdpa"))
    topology = backbone_for(model).topology(model)
    supernet = SuperNet(model, topology)
    spec = topology.spec({group.name: int(group.num_units * units) for group in topology.groups}, {"encoder": (0, 2)})
    example = backbone_for(model).example(model, 2, 1)
    assert export(supernet, spec, None, example, tmp_path / "out") is (units == 1.0)
    loaded = AutoModelForImageClassification.from_pretrained(tmp_path / "out", trust_remote_code=True).eval()
    pixels = torch.rand(2, 3, 8, 8)
    assert torch.equal(loaded(pixel_values=pixels).logits, supernet.subnet(spec)(pixel_values=pixels).logits)
    assert loaded.config.model_args["depth"] == 2
    assert model.config.model_args["depth"] == 3


def test_a_checkpoint_of_timm_itself_keeps_its_body_and_gets_a_head(tmp_path) -> None:
    stock = timm.create_model("vit_tiny_patch16_224", **MODEL, num_classes=4)
    timm.models.save_for_hf(stock, tmp_path, model_args=MODEL)
    model: Any = ImageClassification("digits").load_model(str(tmp_path), "sdpa")
    for name, weight in stock.state_dict().items():
        if not name.startswith("head."):
            assert torch.equal(model.timm_model.state_dict()[name], weight)
    assert model.timm_model.head.out_features == 10
    data = ImageClassification("digits").load(str(tmp_path))
    assert data.collate(data.train[:2])["pixel_values"].shape == (2, 3, 8, 8)


def test_a_vit_of_transformers_takes_pictures_as_its_processor_says(tmp_path) -> None:
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
    ViTForImageClassification(ViTConfig(**sizes, image_size=12, patch_size=4)).save_pretrained(tmp_path)
    ViTImageProcessor(size={"height": 12, "width": 12}, image_mean=[0.2] * 3, image_std=[0.4] * 3).save_pretrained(tmp_path)
    task = ImageClassification("digits", max_eval=40)
    data, model = task.load(str(tmp_path)), task.load_model(str(tmp_path), "sdpa")
    assert data.collate(data.train[:1])["pixel_values"].min() == pytest.approx(-0.2 / 0.4)
    assert 0 <= evaluate(model, data, "test", 16)["accuracy"] < 60


def test_crop_moves_a_picture_by_up_to_an_eighth_and_fills_with_zeros() -> None:
    images = torch.rand(64, 3, 16, 8) + 1
    moved = crop(images, torch.Generator().manual_seed(0))
    padded = torch.nn.functional.pad(images, (1, 1, 2, 2))
    found = set()
    for index, image in enumerate(moved):
        places = [(y, x) for y in range(5) for x in range(3) if torch.equal(image, padded[index, :, y : y + 16, x : x + 8])]
        assert len(places) == 1
        found.add(places[0])
    assert len(found) == 15


def test_flip_mirrors_about_half_of_the_pictures() -> None:
    images = torch.rand(200, 1, 2, 4)
    flipped = flip(images, torch.Generator().manual_seed(0))
    mirrored = [torch.equal(new, old.flip(-1)) for new, old in zip(flipped, images, strict=True)]
    assert all(m or torch.equal(new, old) for m, new, old in zip(mirrored, flipped, images, strict=True))
    assert 70 < sum(mirrored) < 130


def test_augmentation_leaves_labels_alone_and_follows_the_generator() -> None:
    batch = {"pixel_values": torch.rand(8, 3, 8, 8), "labels": torch.arange(8)}
    one, same, other = (Augment(("flip", "crop"))(batch, torch.Generator().manual_seed(s)) for s in (1, 1, 2))
    assert torch.equal(one["pixel_values"], same["pixel_values"])
    assert not torch.equal(one["pixel_values"], other["pixel_values"])
    assert torch.equal(one["labels"], batch["labels"])


@pytest.mark.parametrize(("data", "checkpoint", "options", "message"), [
    ("./nowhere", NEW, {}, "there is no folder ./nowhere"),
    ("digits", "new:timm/vit_tny", {}, "timm has no architecture 'vit_tny'; the nearest are: "),
    ("digits", NEW, {"classes": ("a", "b")}, "has the label '2', which is not one of: a, b"),
    ("digits", NEW, {"config": {"model_arguments": {}}}, "a 'timm_wrapper' model has no 'model_arguments'"),
    ("digits", NEW, {"config": {"model_args": {"dept": 2}}}, "unexpected keyword argument 'dept'"),
])  # fmt: skip
def test_a_mistake_is_named(data, checkpoint, options, message) -> None:
    task = ImageClassification(data, **{"config": CONFIG} | options)
    with pytest.raises((DataError, CheckpointError), match=message):
        task.load(checkpoint) and task.load_model(checkpoint, "sdpa")


def test_a_damaged_picture_is_named(tmp_path) -> None:
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        for number in range(9):
            (tmp_path / name / f"{number}.jpg").write_bytes(encoded(5, "jpeg")[: 60 if number == 3 else None])
    data = ImageClassification(str(tmp_path), config=CONFIG, calibration_size=0).load(NEW)
    with pytest.raises(DataError, match=r"3\.jpg is no picture that can be read"):
        data.collate([*data.train, *data.evaluation["validation"]])


RECIPE = f"""
name = "digits"
model = {{ checkpoint = "{NEW}" }}
space = {{ width = [1.0, 0.5], depth = [1.0, 0.67] }}
finetune = {{ epochs = 6, learning_rate = 5e-3 }}
machine = {{ batch_size = 32, precision = "fp32", log_steps = 1 }}
[task]
name = "image_classification"
data = "digits"
augment = ["crop"]
max_train = 512
max_eval = 100
[task.config]
model_args = {{ img_size = 8, patch_size = 4, embed_dim = 32, depth = 3, num_heads = 4, mlp_ratio = 2.0 }}
pretrained_cfg = {{ crop_pct = 1.0 }}
[[stage]]
name = "both"
axes = ["width", "depth"]
terms = ["soft_cross_entropy", {{ name = "hidden_mse", weight = 0.1 }}]
training = {{ max_steps = 20, learning_rate = 5e-3 }}
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    (folder / "recipe.toml").write_text(RECIPE)
    slimformer("run", "recipe.toml", "--quiet", cwd=folder)
    return folder


def test_a_new_vision_transformer_learns_and_its_sub_networks_are_scored_searched_and_exported(run) -> None:
    results = json.loads((run / "runs/digits/results.json").read_text())
    assert results["teacher"]["test"]["accuracy"] > 30
    assert results["rows"][-1]["metrics"]["test"]["accuracy"] > results["rows"][-1]["snapshots"]["base"]
    scored = json.loads(slimformer("evaluate", "--subnet", "w0.5-d1", "--json", cwd=run).stdout)
    assert scored["metrics"] == results["rows"][1]["metrics"]["test"]
    slimformer("export", "--subnet", "w0.5-d0.67", "--to", "small", cwd=run)
    assert AutoModelForImageClassification.from_pretrained(run / "small", trust_remote_code=True).config.num_labels == 10
    found = json.loads(slimformer("search", "--max-params", "20k", "--max-ratings", 6, "--probe", 16, "--json", cwd=run).stdout)
    assert found["winner"]["costs"]["params"] <= 20_000


def test_a_run_that_is_resumed_sees_the_same_augmented_pictures(run, tmp_path, monkeypatch) -> None:
    append = metrics_log.append_line

    def append_and_stop(path: Path, row: Any) -> None:
        append(path, row)
        if (row["stage"], row["step"]) == ("finetune", 2):
            signal.raise_signal(signal.SIGINT)

    (tmp_path / "recipe.toml").write_text(RECIPE)
    with monkeypatch.context() as patch:
        patch.setattr(metrics_log, "append_line", append_and_stop)
        assert "stopped in stage 'finetune'" in one_line(slimformer("run", "recipe.toml", "--quiet", cwd=tmp_path, rc=130))
    slimformer("run", "recipe.toml", "--quiet", cwd=tmp_path)
    whole, parts = (load_file(folder / "runs/digits/supernet/model.safetensors") for folder in (run, tmp_path))
    assert all(torch.equal(parts[name], weight) for name, weight in whole.items())


def test_grey_of_sixteen_bits_keeps_its_range(tmp_path):
    from slimformer_vision.pictures import find

    ramp = np.linspace(0, 65535, 144).reshape(12, 12).astype("uint16")
    for name in ("a", "b"):
        (tmp_path / "train" / name).mkdir(parents=True)
        Image.fromarray(ramp).save(tmp_path / "train" / name / "x.png")
    values = np.asarray(find(str(tmp_path)).splits["train"][0].open())[..., 0]
    assert (values == ramp // 257).all()
