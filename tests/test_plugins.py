"""Plugins: all of them load, a broken one is left out by name, and loading them is light."""

from __future__ import annotations

import subprocess
import sys
import warnings
from importlib.metadata import EntryPoint

import pytest
import typer

from slimformer import plugins
from slimformer.backbones import BACKBONES, backbone_for
from slimformer.errors import TopologyError
from slimformer.plugins import COMMANDS, GROUP


def test_the_plugins_of_this_package_load_without_a_warning() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert {"builtins", "counters", "text"} <= set(plugins.load_plugins.__wrapped__())


def test_a_broken_plugin_is_named_in_a_warning_and_the_others_load(monkeypatch) -> None:
    points = [
        EntryPoint("broken", "slimformer_no_such_package", GROUP),
        EntryPoint("builtins", "slimformer.components", GROUP),
        EntryPoint("absent", "slimformer.components:absent", GROUP),
    ]
    monkeypatch.setattr(plugins, "entry_points", lambda group: points)
    with pytest.warns(UserWarning, match="was left out") as caught:
        loaded = plugins.load_plugins.__wrapped__()
    assert loaded == ("builtins",)
    messages = [str(warning.message) for warning in caught]
    assert len(messages) == 2
    assert "'absent' (slimformer.components:absent)" in messages[0]
    assert "'broken' (slimformer_no_such_package)" in messages[1]


def test_plugins_are_loaded_once() -> None:
    assert plugins.load_plugins() is plugins.load_plugins()


def test_the_command_line_has_the_commands_of_plugins_but_none_that_takes_a_built_in_name(monkeypatch) -> None:
    from typer.main import get_command

    from slimformer.cli import app as cli

    app = typer.Typer()
    app.command("run")(lambda: None)
    monkeypatch.setattr(cli, "app", app)
    points = [
        EntryPoint("broken", "slimformer_no_such_package:x", COMMANDS),
        EntryPoint("run", "slimformer_dynabert.commands:augment", COMMANDS),
        EntryPoint("vary", "slimformer_dynabert.commands:augment", COMMANDS),
    ]
    monkeypatch.setattr(plugins, "entry_points", lambda group: points if group == COMMANDS else [])
    monkeypatch.setattr(cli, "load_commands", plugins.load_commands.__wrapped__)
    with pytest.warns(UserWarning, match="was left out") as caught:
        cli._add_commands_of_plugins.__wrapped__()
    said = [str(warning.message) for warning in caught]
    assert "plugin 'broken'" in said[0]
    assert said[1] == "a plugin's command 'run' was left out: slimformer has one of that name"
    found = get_command(app).commands  # type: ignore[attr-defined]
    assert sorted(found) == ["run", "vary"]
    assert found["vary"].help.startswith("Vary a task's training texts")
    assert not found["run"].params


LIGHT = """
import sys
import slimformer
from slimformer import load_plugins
from slimformer.plugins import load_commands
assert {"augment", "attention"} <= set(load_commands())
from slimformer.registry import REGISTRIES
load_plugins()
assert REGISTRIES["backbones"].names() and REGISTRIES["scorers"].names() and REGISTRIES["depth_policies"].names()
[registry.summary(name) for registry in REGISTRIES.values() for name in registry.names()]
print(sorted({"torch", "transformers", "numpy", "datasets"} & set(sys.modules)))
"""


def test_importing_and_loading_plugins_imports_neither_torch_nor_transformers() -> None:
    run = subprocess.run([sys.executable, "-W", "error", "-c", LIGHT], capture_output=True, text=True, check=False)
    assert run.stdout.strip() == "[]", run.stdout + run.stderr


def test_every_public_name_exists() -> None:
    import slimformer

    for name in slimformer.__all__:
        assert getattr(slimformer, name) is not None


def test_an_unknown_public_name_is_an_attribute_error() -> None:
    import slimformer

    with pytest.raises(AttributeError, match="module 'slimformer' has no attribute 'SuperNetwork'"):
        _ = slimformer.SuperNetwork


def test_each_family_finds_its_backbone(tiny) -> None:
    for family in ("Bert", "Electra"):
        assert BACKBONES.name_of(backbone_for(tiny(family, num_hidden_layers=1))) == "bert"


def test_a_model_of_no_known_family_is_refused_by_class() -> None:
    from torch import nn

    with pytest.raises(TopologyError, match=r"no backbone describes Linear; there are: .*bert"):
        backbone_for(nn.Linear(2, 2))
