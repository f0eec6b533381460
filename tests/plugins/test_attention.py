"""Attention of sub-networks: maps, importance, likeness, and what the command says and draws."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from slimformer.cli import app as cli
from slimformer.importance import FirstOrder
from slimformer.rewiring import Rewiring
from slimformer_dynabert.attention import Block, Look, Network, Viewer, own_topology, similarity
from tests.conftest import build_tiny, build_tokenizer


@pytest.fixture
def viewer(supernet, batches):
    """A super-network whose heads were turned round in the first block, looking at one sentence."""
    rewiring = Rewiring.of(supernet.topology, {"encoder.0.heads": (3, 2, 1, 0)})
    rewiring.apply_(supernet)
    inputs = {"input_ids": batches[0]["input_ids"][:1], "attention_mask": batches[0]["attention_mask"][:1]}
    return Viewer(supernet, rewiring, inputs, batches)


def test_maps_are_those_of_the_extracted_network_by_the_block_and_head_that_they_had(viewer, supernet, space):
    spec = space.spec({"width": 0.5, "depth": 0.5})
    whole = viewer.network("super-network", supernet.topology.full, {})
    small = viewer.network("small", spec, whole.blocks)
    assert list(small.blocks) == list(spec.blocks["encoder"]) == [1, 3]
    assert [whole.blocks[block].heads for block in (0, 1)] == [(3, 2, 1, 0), (0, 1, 2, 3)]
    assert small.blocks[3].heads == (0, 1)
    alone = supernet.extract(spec)
    alone.set_attn_implementation("eager")
    maps = alone(**viewer.inputs, output_attentions=True).attentions
    torch.testing.assert_close(small.blocks[3].maps, maps[1][0].detach())


def test_the_importance_in_a_sub_network_is_that_of_the_network_alone(viewer, supernet, space, tiny, batches):
    spec = space.spec({"width": 1.0, "depth": 0.5})
    shallow = tiny("Bert", num_hidden_layers=2)
    shallow.load_state_dict(supernet.extract(spec).state_dict())
    from slimformer import SuperNet
    from slimformer.backbones import backbone_for

    alone = SuperNet(shallow, backbone_for(shallow).topology(shallow))
    expected = FirstOrder()(alone, batches)["encoder.0.heads"]
    found = viewer.network("small", spec, {}).blocks[1].importance
    torch.testing.assert_close(torch.tensor(found), expected, rtol=1e-4, atol=1e-6)
    assert own_topology(supernet.topology, spec).groups[0].slices[0].parameter.startswith("bert.encoder.layer.0.")


def test_likeness_is_one_for_equal_maps_and_zero_for_disjoint_ones():
    straight, turned = torch.eye(4)[None], torch.eye(4).roll(1, 0)[None]
    flat = torch.full((1, 4, 4), 0.25)
    found = similarity(torch.cat([straight, turned]), torch.cat([straight, turned, flat]))
    torch.testing.assert_close(found[:, :2], torch.eye(2))
    assert float(found[0, 2]) == pytest.approx(0.4512, abs=1e-4)


def test_a_head_that_does_the_work_of_a_dropped_one_has_moved_towards_it():
    maps = torch.stack([torch.eye(4), torch.eye(4).roll(1, 0)])
    whole = Block(0, (0, 1), maps, (), similarity(maps, maps))
    mixed = maps.mean(0, keepdim=True)
    small = Block(0, (0,), mixed, (), similarity(mixed, maps))
    found = Look(("a",) * 4, (Network("super-network", None, {0: whole}), Network("small", None, {0: small})))
    assert found.moved(found.networks[1], 0) == pytest.approx(0.6887, abs=1e-4)
    assert found.moved(found.networks[0], 0) is None


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of a tiny model without any training."""
    folder = tmp_path_factory.mktemp("project")
    build_tiny("Bert", num_hidden_layers=2).save_pretrained(folder / "model")
    build_tokenizer().save_pretrained(folder / "model")
    lines = [f"the {name} is {word},{word}" for word in ("good", "bad") for name in ("cat", "dog", "film") * 5]
    (folder / "train.csv").write_text("\n".join(["text,label", *lines, ""]))
    (folder / "recipe.toml").write_text("""
name = "tiny"
space = { width = [1.0, 0.5], depth = [1.0, 0.5] }
finetune = { epochs = 0 }
model = { checkpoint = "./model" }
task = { name = "text_files", train = "train.csv" }
evaluation = { snapshots = [], workload = { length = 8 } }
""")
    assert call(folder, "run", "recipe.toml", "--quiet", "--json")[0] == 0
    return folder


def call(folder: Path, *arguments: Any) -> tuple[int, str, str]:
    """Run the command in a folder: its exit code, stdout and stderr."""
    from contextlib import redirect_stderr, redirect_stdout
    from io import StringIO

    out, err = StringIO(), StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.chdir(folder)
        patch.setattr(sys, "argv", ["slimformer", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            cli.main()
    return int(stop.value.code or 0), out.getvalue(), err.getvalue()


def test_the_command_draws_and_its_json_has_the_numbers(run):
    code, out, _ = call(run, "attention", "--sentence", "the cat is good", "--subnet", "w0.5", "--examples", 3, "--json")
    found = json.loads(out)
    assert code == 0
    assert found["tokens"] == ["[CLS]", "the", "cat", "is", "good", "[SEP]"]
    whole, small = found["networks"]
    assert (whole["name"], small["name"]) == ("super-network", "width0.5-depth1")
    assert [len(block["heads"]) for block in small["blocks"]] == [2, 2]
    assert [len(block["importance"]) for block in whole["blocks"]] == [4, 4]
    assert "maps" in small["blocks"][1]
    assert "maps" not in small["blocks"][0]
    assert all(sum(row) == pytest.approx(1) for row in small["blocks"][1]["maps"][0])
    assert [Path(picture).name for picture in found["pictures"]] == ["block-1.png", "heads.png"]
    assert all((run / picture).read_bytes().startswith(b"\x89PNG") for picture in found["pictures"])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "write the text to read: --sentence TEXT"),
        (("--sentence", "a cat", "--block", 7), "--block 7: the super-network has the blocks 0 to 1"),
        (("--sentence", "a cat", "--subnet", "w0.3"), "w0.3"),
        (("--sentence", "cat " * 60), "takes at most 40 tokens, not 62"),
    ],
    ids=lambda value: " ".join(map(str, value))[:30] if isinstance(value, tuple) else "",
)
def test_wrong_input_is_one_line(run, arguments, said):
    code, out, err = call(run, "attention", "runs/tiny", "--examples", 0, *arguments)
    assert (code, out) == (2, "")
    assert said in err
    assert err.count("\n") == 1
