"""Nothing read from a model becomes code: names are checked, text is quoted, and the file is parsed before its import."""

from __future__ import annotations

import ast
import json
from pathlib import Path

import pytest
import torch
from torch import nn

from slimformer.backbones import BACKBONES
from slimformer.discovery import inspect as inspection, plugin_source, propose
from slimformer.discovery.source_check import check_source, checked_path, in_docstring, is_identifier
from slimformer.errors import TopologyError

IDS = {"input_ids": torch.randint(3, 30, (2, 6), generator=torch.Generator().manual_seed(0))}


@pytest.mark.parametrize(
    "text",
    [
        "import os\n",
        "from os import system\n",
        "from slimformer.backbones import BACKBONES\nBACKBONES.system('x')\n",
        "x = [i for i in ().__class__.__bases__]\n",
        "x = eval('1')\n",
        "x = (lambda: 1)\n",
        "def f(x): return x.__globals__\n",
        "x = f'{open(\"secret\")}'\n",
        "if True: pass\n",
        "x = (\n",
    ],
)
def test_a_plugin_file_with_anything_but_the_generators_own_syntax_is_refused(text: str) -> None:
    with pytest.raises(TopologyError):
        check_source(text)


@pytest.mark.parametrize("name", ["a b", "if", "__class__", "x.__dict__", "a\nb", "", "heads if 0 else 1", "vär"])
def test_a_name_that_is_no_plain_identifier_never_stands_in_code(name: str) -> None:
    assert not is_identifier(name)


def test_a_part_of_a_model_with_an_odd_name_is_refused_in_one_line() -> None:
    with pytest.raises(TopologyError, match="called"):
        checked_path('blocks."); import os; ("')
    assert in_docstring('"""\nimport os\\') == "'''?import os/"


def test_keys_of_a_configuration_never_run_and_never_reach_the_plugin_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mark = tmp_path / "ran"
    key = f"kv_heads if 0 else [4, __import__('os').system('touch {mark}')][0]"
    sizes = {"hidden_size": 32, "num_attention_heads": 4, "num_hidden_layers": 2, "intermediate_size": 64, "vocab_size": 60}
    config = {"architectures": ["GPTNeoXForCausalLM"], "model_type": "gpt_neox", "max_position_embeddings": 64, key: 4}
    (tmp_path / "config.json").write_text(json.dumps(config | sizes | {f"{key}#layer": 2, f"{key}#list": [1, 1]}))
    monkeypatch.setattr(BACKBONES, "_classes", dict(BACKBONES._classes))
    request = inspection.Request(str(tmp_path), 16, write=tmp_path / "mine.py")
    inspection.inspect_checkpoint(request, lambda line: None)
    assert not mark.exists()
    assert "system" not in (tmp_path / "mine.py").read_text()


def test_what_a_model_says_of_itself_stays_inside_the_docstring() -> None:
    class Talkative(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.up, self.down = nn.Embedding(30, 16), nn.Linear(16, 24), nn.Linear(24, 16)
            self.odd = nn.MultiheadAttention(16, 2)

        def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
            x = self.embed(input_ids)
            return x + self.down(torch.relu(self.up(x)))

    model = Talkative()
    proposal = propose(model, IDS)
    object.__setattr__(proposal.refusals[0], "reason", '"""\nimport os\n"""')
    tree = ast.parse(plugin_source(model, IDS, proposal, "talkative"))
    assert {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names} <= {"torch"}
