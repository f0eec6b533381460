"""Plugins that fail in unusual ways: each is left out with a warning that names it, and the others go on working."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from slimformer import plugins
from slimformer.backbones import BACKBONES, backbone_for
from slimformer.costs import COSTS
from slimformer.errors import RecipeError, TopologyError
from slimformer.importance import SCORERS
from slimformer.registry import REGISTRIES

SCORER = '''
from dataclasses import dataclass, field
from typing import Any, ClassVar
from slimformer.importance import SCORERS

@SCORERS.register("fine")
@dataclass(frozen=True)
class Fine:
    """A scorer that works."""
    needs_data: ClassVar[bool] = False
    def __call__(self, supernet, *rest): return {}
'''

BACKBONE = '''
from dataclasses import dataclass
from slimformer.backbones import BACKBONES

@BACKBONES.register("broken_backbone")
@dataclass(frozen=True)
class Broken:
    """A backbone that fails at the question."""
    def describes(self, model): BODY
    def topology(self, model): ...
    def example(self, model, batch_size, length): ...
'''

FAILING = {
    "exit": "import sys; sys.exit(3)",
    "exit_text": "raise SystemExit('bye')",
    "base_exception": "class Odd(BaseException): pass\nraise Odd('odd')",
    "generator_exit": "raise GeneratorExit",
    "division": "1 / 0",
    "syntax": "def (:",
    "null_byte": "x = '\0'",
    "recursion": "def f(): f()\nf()",
    "memory": "raise MemoryError",
    "missing_package": "import a_package_that_nobody_has",
    "attribute": "from slimformer.importance import NothingOfThatName",
    "assertion": "assert False, 'no [/bold] markup \x1b[31m'",
    "message_that_fails": "class Odd(Exception):\n    def __str__(self): raise ValueError\nraise Odd",
    "long_message": "raise ValueError('x' * 100_000)",
    "warning_as_error": "import warnings\nwarnings.simplefilter('error')\nwarnings.warn('careful')",
    "no_dataclass": "from slimformer.importance import SCORERS\n@SCORERS.register('x')\nclass X: pass",
    "a_function": "from slimformer.importance import SCORERS\n@SCORERS.register('x')\ndef f(): pass",
    "an_instance": SCORER + "SCORERS.register('x')(Fine())",
    "name_that_is_no_text": SCORER + "SCORERS.register(3)(Fine)",
    "name_with_markup": SCORER + "SCORERS.register('[/x]')(Fine)",
    "name_with_escape": SCORER + "SCORERS.register('a\\x1b[31m')(Fine)",
    "empty_name": SCORER + "SCORERS.register('')(Fine)",
    "name_of_a_built_in": SCORER.replace('"fine"', '"magnitude"'),
    "option_called_name": SCORER.replace("needs_data:", "name: str = ''\n    needs_data:"),
    "scorer_without_needs_data": SCORER.replace("needs_data: ClassVar[bool] = False", ""),
    "scorer_that_cannot_be_called": SCORER.replace("__call__", "call"),
    "mutable_default": SCORER.replace("needs_data:", "sizes: list = []\n    needs_data:"),
    "cost_without_unit": SCORER.replace("SCORERS", "COSTS").replace("importance", "costs").replace("__call__", "price"),
    "registry_of_a_taken_name": "from slimformer.registry import Registry\nRegistry('scorer', 'scorers')",
    "unknown_registry": "from slimformer.registry import REGISTRIES\nREGISTRIES['none'].register('x')",
    "component_then_failure": SCORER + "raise RuntimeError('late')",
}
"""Plugins that cannot be loaded, by what is wrong with them."""

UNUSABLE = {
    "unknown_annotation": SCORER.replace("needs_data:", "size: 'Nowhere' = 1\n    needs_data:"),
    "broken_annotation": SCORER.replace("needs_data:", "size: '1 +' = 1\n    needs_data:"),
    "annotation_without_schema": SCORER.replace("needs_data:", "size: object.__class__('T', (), {}) = 1\n    needs_data:"),
    "annotation_that_raises": SCORER.replace("needs_data:", "size: '1/0' = 1\n    needs_data:"),
}
"""Plugins that load, with a component whose options no recipe can be checked against."""

STRANGE = {
    "prints": "print('hello')\n" + SCORER,
    "warns": "import warnings\nwarnings.warn('careful')\n" + SCORER,
    "no_docstring": SCORER.replace('    """A scorer that works."""\n', "    __doc__ = ''\n"),
    "docstring_with_markup": SCORER.replace("that works", "[/bold] [red]"),
    "default_that_cannot_be_shown": SCORER.replace(
        "needs_data:", "size: Any = field(default_factory=lambda: 1 / 0)\n    needs_data:"
    ),
}
"""Plugins that are strange but work."""

Install = Callable[..., str]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Write a distribution with an entry point, which is found as an installed one would be; registries are put back after."""
    before = {plural: dict(registry) for plural, registry in REGISTRIES.items()}
    monkeypatch.syspath_prepend(str(tmp_path))

    def install(name: str, source: str, value: str = "", group: str = plugins.GROUP) -> str:
        write_plugin(tmp_path, f"stranger_{name}", source, value, group)
        return f"stranger_{name}"

    yield install
    for plural in set(REGISTRIES) - set(before):
        del REGISTRIES[plural]
    for plural, classes in before.items():
        for name in set(REGISTRIES[plural].names()) - set(classes):
            REGISTRIES[plural].forget(name)
    for module in [name for name in sys.modules if name.startswith("stranger_")]:
        del sys.modules[module]


def write_plugin(folder: Path, module: str, source: str, value: str = "", group: str = plugins.GROUP) -> None:
    (folder / f"{module}.py").write_text(source, encoding="utf-8")
    info = folder / f"{module}-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1\n")
    (info / "entry_points.txt").write_text(f"[{group}]\n{module.replace('_', '-')} = {value or module}\n")


def load() -> tuple[str, ...]:
    return plugins.load_plugins.__wrapped__()


@pytest.mark.parametrize("kind", FAILING)
def test_a_plugin_that_fails_while_it_loads_is_named_and_leaves_nothing_behind(install, kind) -> None:
    before = {plural: registry.names() for plural, registry in REGISTRIES.items()}
    install(kind, FAILING[kind])
    with pytest.warns(UserWarning, match=f"plugin 'stranger-{kind.replace('_', '-')}' .* was left out: ") as caught:
        loaded = load()
    assert "builtins" in loaded
    assert not any(name.startswith("stranger") for name in loaded)
    assert {plural: registry.names() for plural, registry in REGISTRIES.items()} == before
    (said,) = [str(warning.message) for warning in caught if "left out" in str(warning.message)]
    assert "\n" not in said
    assert "\x1b" not in said
    assert len(said) < 500


@pytest.mark.parametrize("kind", UNUSABLE)
def test_a_component_that_recipes_cannot_check_is_left_out(install, kind) -> None:
    install(kind, UNUSABLE[kind])
    with pytest.warns(UserWarning, match="importance scorer 'fine' of plugin 'stranger-.*' .* was left out"):
        load()
    assert "fine" not in SCORERS


@pytest.mark.parametrize("kind", STRANGE)
@pytest.mark.filterwarnings("ignore:careful")
def test_a_plugin_that_is_only_strange_works_and_prints_nothing_on_stdout(install, kind, capsys) -> None:
    from slimformer.cli.components import list_components

    install(kind, STRANGE[kind])
    assert f"stranger-{kind.replace('_', '-')}" in load()
    assert capsys.readouterr().out == ""
    list_components("scorers")
    list_components("scorers", options=True, as_json=True)
    assert "fine" in capsys.readouterr().out


def test_the_name_of_another_component_is_refused_naming_both_modules(install) -> None:
    install("a", SCORER)
    install("b", SCORER)
    with pytest.warns(UserWarning, match=r"'stranger-b' .* 'fine' is registered twice: stranger_a and stranger_b"):
        load()
    assert SCORERS.get("fine").__module__ == "stranger_a"


@pytest.mark.parametrize(
    "value", ["stranger_v:", "stranger_v:nothing", "stranger_w", "not a value", "stranger_v..x", ":x", "1/0"]
)
def test_a_wrong_entry_point_is_left_out(install, value) -> None:
    install("v", "x = 1", value=value)
    with pytest.warns(UserWarning, match="plugin 'stranger-v' .* was left out"):
        assert "builtins" in load()


@pytest.mark.filterwarnings("ignore:the entry points of package")
@pytest.mark.parametrize("text", ["no section\n", "[slimformer.plugins]\nno value\n", "\ufffe\x00"])
def test_a_package_whose_entry_points_cannot_be_read_does_not_hide_the_others(install, tmp_path, text) -> None:
    install("whole", SCORER)
    install("half", SCORER)
    (tmp_path / "stranger_half-1.dist-info" / "entry_points.txt").write_bytes(
        text.encode("utf-16" if "\x00" in text else "utf-8")
    )
    assert {"builtins", "stranger-whole"} <= set(load())


@pytest.mark.parametrize("body", ["1 / 0", "raise SystemExit", "return model.nothing.of_that_name"])
def test_a_backbone_that_fails_at_the_question_is_skipped_with_a_warning(install, bert, body) -> None:
    install("backbone", BACKBONE.replace("BODY", body))
    load()
    with pytest.warns(UserWarning, match=r"backbone 'broken_backbone' was left out, its describes\(\) failed"):
        assert BACKBONES.name_of(backbone_for(bert)) == "bert"


def test_a_backbone_that_the_user_named_and_that_fails_is_an_error(install, bert) -> None:
    install("backbone", BACKBONE.replace("BODY", "1 / 0"))
    load()
    with pytest.raises(TopologyError, match="broken_backbone failed to say whether it describes the model: division by zero"):
        backbone_for(bert, [BACKBONES.build("broken_backbone")])


def test_a_cost_says_its_unit_even_if_it_inherits_it(install) -> None:
    from slimformer.costs.base import unit_of

    cost = SCORER.replace("SCORERS", "COSTS").replace("importance", "costs").replace("__call__", "price")
    install("cost", cost.replace("needs_data: ClassVar[bool] = False", "unit: ClassVar[str] = 'beans'") + (
        '\n@COSTS.register("finer")\n@dataclass(frozen=True)\nclass Finer(Fine):\n    """Another."""\n'
    ))  # fmt: skip
    load()
    assert "finer" in COSTS
    assert unit_of("finer") == "beans"


@pytest.mark.parametrize("body", ["1 / 0", "return lambda spec: 1 / 0", "return lambda spec: 'many'", "return None"])
def test_a_cost_that_fails_is_left_out_of_an_inspection(install, supernet, bert, body) -> None:
    from slimformer.costs import Workload, counted_pricers

    cost = SCORER.replace("SCORERS", "COSTS").replace("importance", "costs").replace("__call__", "price")
    cost = cost.replace("needs_data: ClassVar[bool] = False", "unit: ClassVar[str] = 'beans'").replace("return {}", body)
    install("cost", cost)
    load()
    with pytest.warns(UserWarning, match="cost 'fine' was left out: "):
        found = counted_pricers(supernet, backbone_for(bert), Workload(1, 8))
    assert "params" in found
    assert "fine" not in found


@pytest.mark.parametrize("kind", [*FAILING, *UNUSABLE])
def test_a_plugin_file_of_a_recipe_that_fails_is_a_recipe_error(tmp_path, install, kind) -> None:
    before = {plural: registry.names() for plural, registry in REGISTRIES.items()}
    file = tmp_path / f"{kind}.py"
    file.write_text(FAILING.get(kind) or UNUSABLE[kind], encoding="utf-8")
    with pytest.raises(RecipeError, match=f"plugin .*{kind}.py"):
        plugins.load_file(file)
    assert {plural: registry.names() for plural, registry in REGISTRIES.items()} == before


COMMANDS = {
    "broken_annotation": "def command(x: 'list[int'): ...",
    "unknown_annotation": "def command(x: 'Nowhere'): ...",
    "no_function": "command = 3",
    "a_class": "class command: ...",
    "exits": "raise SystemExit",
}
"""Commands that typer cannot read, by what is wrong with them."""


def environment(folder: Path) -> dict[str, str]:
    paths = [str(folder), os.environ.get("PYTHONPATH", "")]
    return os.environ | {"PYTHONPATH": os.pathsep.join(path for path in paths if path), "COLUMNS": "200", "NO_COLOR": "1"}


def test_with_every_broken_plugin_at_once_the_commands_work_and_stdout_is_one_document(tmp_path) -> None:
    for kind, source in (FAILING | UNUSABLE).items():
        write_plugin(tmp_path, f"stranger_{kind}", source)
    write_plugin(tmp_path, "stranger_printing", STRANGE["prints"])
    for kind, source in COMMANDS.items():
        write_plugin(tmp_path, f"stranger_command_{kind}", source, f"stranger_command_{kind}:command", plugins.COMMANDS)

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "slimformer", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False, env=environment(tmp_path), cwd=tmp_path)

    listed = run("list", "--json")
    assert listed.returncode == 0, listed.stderr
    assert "first_order" in json.loads(listed.stdout)["scorers"]
    assert "Traceback" not in listed.stderr
    for kind in (*FAILING, *UNUSABLE, *(f"command_{kind}" for kind in COMMANDS)):
        assert f"stranger-{kind.replace('_', '-')}'" in listed.stderr, kind
    for arguments in (["--help"], ["compare", "nothing"], ["new-backbone", "mine"]):
        done = run(*arguments)
        assert "Traceback" not in done.stderr, (arguments, done.stderr)
        assert done.returncode == (2 if arguments[0] == "compare" else 0), (arguments, done.stderr)
