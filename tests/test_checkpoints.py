"""Where weights come from: folders, installed packages, hub names, hashes, fallbacks."""

import hashlib

import pytest
import torch

from slimformer.checkpoints import load_with_head, resolve
from slimformer.errors import CheckpointError


@pytest.fixture
def package(tmp_path, monkeypatch):
    """An installed distribution "tiny-weights" that carries a model in tiny_weights/model; returns that folder."""
    site = tmp_path / "site"
    (site / "tiny_weights-1.2.dist-info").mkdir(parents=True)
    (site / "tiny_weights-1.2.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: tiny-weights\nVersion: 1.2\n")
    folder = site / "tiny_weights" / "model"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"weights")
    monkeypatch.syspath_prepend(str(site))
    return folder


def test_a_package_name_is_the_folder_inside_the_installed_distribution(package):
    assert resolve("package:tiny-weights/tiny_weights/model") == str(package)


def test_a_missing_package_says_what_to_install():
    with pytest.raises(CheckpointError, match=r"pip install --no-deps no-such-weights,.*--set model.checkpoint=") as caught:
        resolve("package:no-such-weights/model")
    assert "\n" not in str(caught.value)


def test_a_package_without_a_name_is_an_error():
    with pytest.raises(CheckpointError, match="DISTRIBUTION/FOLDER"):
        resolve("package:/model")


@pytest.mark.parametrize("inner", ["", "tiny_weights", "tiny_weights/modle"])
def test_a_package_without_a_model_in_that_folder_is_named_with_its_version(package, inner):
    with pytest.raises(CheckpointError, match=f"package 'tiny-weights' 1.2 holds no model in '{inner}'"):
        resolve(f"package:tiny-weights/{inner}")


def test_a_folder_is_itself(package):
    assert resolve(str(package)) == str(package)


def test_a_folder_without_a_config_is_an_error(tmp_path):
    with pytest.raises(CheckpointError, match=r"holds no config\.json: give the folder of a model"):
        resolve(str(tmp_path))


@pytest.mark.parametrize("name", ["/no/such/folder", "./nowhere", "~/no-such-folder"])
def test_a_path_that_is_no_folder_is_an_error_not_a_hub_name(name):
    with pytest.raises(CheckpointError, match=f"there is no folder {name}: give the folder"):
        resolve(name)


def test_another_name_is_left_to_the_hub():
    assert resolve("bert-base-uncased") == "bert-base-uncased"
    assert resolve("sentence-transformers/all-MiniLM-L6-v2") == "sentence-transformers/all-MiniLM-L6-v2"


def test_the_fallback_is_taken_where_the_first_choice_is_not_there(package):
    assert resolve("package:no-such-weights/model", fallback=str(package)) == str(package)
    assert resolve("package:no-such-weights/model", fallback="bert-base-uncased") == "bert-base-uncased"


def test_the_fallback_is_not_taken_where_the_first_choice_is_there(package):
    assert resolve(str(package), fallback="bert-base-uncased") == str(package)


def test_a_fallback_that_is_not_there_either_is_an_error():
    with pytest.raises(CheckpointError, match="there is no folder /nowhere"):
        resolve("package:no-such-weights/model", fallback="/nowhere")


@pytest.mark.parametrize("digits", [64, 12])
def test_a_file_with_its_hash_is_trusted(package, digits):
    wanted = hashlib.sha256(b"weights").hexdigest()[:digits].upper()
    assert resolve(str(package), sha256={"model.safetensors": wanted}) == str(package)


@pytest.mark.parametrize("wanted", ["0" * 64, ""])
def test_a_file_with_another_hash_is_not_trusted(package, wanted):
    with pytest.raises(CheckpointError, match=r"model\.safetensors has SHA-256 .* as the recipe says: do not trust it"):
        resolve(str(package), sha256={"model.safetensors": wanted})


def test_the_hash_of_the_fallback_is_checked_too(package):
    with pytest.raises(CheckpointError, match="do not trust it"):
        resolve("package:no-such-weights/model", str(package), {"model.safetensors": "0" * 64})


def test_a_wrong_hash_is_no_reason_to_take_the_fallback(package):
    with pytest.raises(CheckpointError, match="do not trust it"):
        resolve(str(package), "bert-base-uncased", {"model.safetensors": "0" * 64})


def test_a_file_that_should_have_a_hash_and_is_missing_is_an_error(package):
    with pytest.raises(CheckpointError, match=r"pytorch_model.bin is missing, though the recipe gives its hash"):
        resolve(str(package), sha256={"pytorch_model.bin": "00"})


def test_an_exported_sub_network_is_a_checkpoint_with_its_head_or_a_new_one(supernet, batch, tmp_path):
    spec = supernet.topology.spec({"encoder.0.heads": 2, "encoder.1.ffn": 8}, {"encoder": (0, 1, 3)})
    small = supernet.extract(spec)
    small.save_pretrained(tmp_path)
    kept = load_with_head("AutoModelForSequenceClassification", str(tmp_path), "sdpa").eval()
    with torch.no_grad():
        assert torch.equal(kept(**batch).logits, small(**batch).logits)
    other = load_with_head("AutoModelForTokenClassification", str(tmp_path), "sdpa", {"num_labels": 5}).eval()
    assert other(batch["input_ids"]).logits.shape == (*batch["input_ids"].shape, 5)
    new = load_with_head("AutoModelForSequenceClassification", f"new:{tmp_path}", "sdpa")
    assert {name: p.shape for name, p in new.named_parameters()} == {name: p.shape for name, p in small.named_parameters()}


def test_the_number_type_of_a_checkpoint_is_noted_where_it_is_not_float32(supernet, tmp_path):
    supernet.model.save_pretrained(tmp_path / "whole")
    supernet.model.half().save_pretrained(tmp_path / "half")
    whole, half = (load_with_head("AutoModelForSequenceClassification", str(tmp_path / n), "sdpa") for n in ("whole", "half"))
    assert not hasattr(whole.config, "checkpoint_dtype")
    assert (half.config.checkpoint_dtype, half.dtype) == ("float16", torch.float32)
