"""Every Python block of the documentation runs, file by file; every `slimformer` command in it is real; examples run."""

import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("", "docs", "benchmarks", "examples")
PAGES = [page for folder in FOLDERS for page in sorted((ROOT / folder).glob("*.md"))]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.DOTALL)


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "python")], ids=lambda page: page.name)
def test_the_python_blocks_of_a_page_run_in_order(page, tmp_path):
    script = tmp_path / "page.py"
    script.write_text("\n".join(blocks(page, "python")), encoding="utf-8")
    done = subprocess.run([sys.executable, str(script)], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("script", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_runs_offline(script, tmp_path):
    done = subprocess.run(
        [sys.executable, str(script)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        env=_wide() | {"HF_HUB_OFFLINE": "1"},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


def test_there_are_five_examples():
    assert len(EXAMPLES) == 5


@pytest.fixture
def api_pages(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "docs"))
    import api_pages

    return api_pages


def test_every_public_name_has_a_docstring(api_pages):
    assert api_pages.undocumented() == []


def test_a_public_name_without_a_docstring_stops_the_build_of_the_site(api_pages, monkeypatch, tmp_path):
    from slimformer import importance

    monkeypatch.setattr(importance, "__all__", [*importance.__all__, "Nameless"])
    monkeypatch.setattr(importance, "Nameless", type("Nameless", (), {}), raising=False)
    with pytest.raises(ValueError, match=r"public names without a docstring: slimformer.importance.Nameless"):
        api_pages.write_pages(tmp_path)


def test_the_docstring_of_a_value_is_the_text_after_it(api_pages):
    assert api_pages.docstring("slimformer.importance", "SCORERS") == "Importance scorers by name."


def test_a_docstring_becomes_parameters_paragraphs_and_code(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "docs"))
    from docstring_markup import to_rst

    text = "Sort_ `x_` now.\n\nsize: how large,\n    in all.\nRaises: E if\n    wrong.\n\n```python\nx = 1\n```"
    lines = [line for line in to_rst(text.splitlines(), ["size"]) if line]
    assert lines == [
        "Sort\\_ ``x_`` now.", ":param size: how large, in all.", "**Raises:** E if wrong.", ".. code-block:: python", "   x = 1",
    ]  # fmt: skip


def test_first_lines_of_public_docstrings_state_what_a_thing_is(api_pages):
    import importlib

    asking = []
    for folder in ("axes", "backbones", "distillation", "export", "importance", "rewiring", "training"):
        package = importlib.import_module(f"slimformer.{folder}")
        first = [(name, api_pages.docstring(package.__name__, name).strip().splitlines()[0]) for name in package.__all__]
        asking += [f"{folder}.{name}: {line}" for name, line in first if re.match(r"(What|Who|How|Where) ", line)]
    assert asking == []


EXAMPLES_IN_DOCSTRINGS = ("axes", "component_options", "distillation", "importance", "plugins", "registry", "rewiring")
"""Folders and modules whose docstrings have examples."""


def examples_in(text: str) -> list[str]:
    return [textwrap.dedent(block) for block in re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)]


@pytest.mark.parametrize("place", EXAMPLES_IN_DOCSTRINGS)
def test_the_examples_in_docstrings_run(place, supernet, space, batches, tmp_path):
    files = sorted((ROOT / "slimformer").glob(f"{place}.py")) + sorted((ROOT / "slimformer" / place).glob("*.py"))
    examples = [example for file in files for example in examples_in(file.read_text(encoding="utf-8"))]
    assert examples
    for example in examples:
        exec(example, {"supernet": supernet, "space": space, "batches": batches, "path": tmp_path / "scores.safetensors"})


def test_every_component_of_these_folders_has_an_example(api_pages):
    import dataclasses
    import importlib

    without = []
    for folder in ("axes", "distillation", "importance", "rewiring"):
        package = importlib.import_module(f"slimformer.{folder}")
        for name in package.__all__:
            text = api_pages.docstring(package.__name__, name)
            cls = getattr(package, name)
            is_component = dataclasses.is_dataclass(cls) and cls.__mro__[1] is object  # not the parts of an axis
            if is_component and "```python" not in text:
                without.append(f"{folder}.{name}")
    assert without == []


def test_every_command_that_the_pages_show_has_only_options_that_exist():
    shown = {
        line.strip().strip("`")
        for page in PAGES
        for line in re.findall(
            r"slimformer (?:run|search|evaluate|export|compare|list|inspect|augment|attention|new-backbone)[^`\n|\]]*",
            page.read_text(encoding="utf-8"),
        )
    }
    assert shown
    for command in sorted({line.split()[1] for line in shown}):
        help_text = subprocess.run(
            [sys.executable, "-m", "slimformer", command, "--help"], capture_output=True, text=True, check=True, env=_wide()
        ).stdout
        for line in shown:
            if line.split()[1] == command:
                for option in re.findall(r"--[a-z-]+", line):
                    assert option in help_text, f"{line}: {option}"


def test_the_scorer_and_the_pass_of_the_plugin_page_appear_in_the_lists(tmp_path):
    from tests.test_broken_plugins import environment, write_plugin

    write_plugin(tmp_path, "my_slimformer", blocks(ROOT / "docs" / "write_a_plugin.md", "python")[0])
    for registry, line in (
        ("scorers", "max_weight  Largest absolute weight"),
        ("passes", "blocks = 1  whole number  the number of"),
    ):
        command = [sys.executable, "-m", "slimformer", "list", registry]
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment(tmp_path))
        assert line in done.stdout
        assert done.stderr == ""


def test_every_recipe_that_the_pages_name_is_there():
    for page in PAGES:
        for name in re.findall(r"recipes/(?:ablations/)?[a-z_-]+\.(?:toml|txt)", page.read_text(encoding="utf-8")):
            assert (ROOT / name).is_file(), f"{page.name}: {name}"


def test_every_file_and_option_by_which_the_paper_is_mapped_is_real():
    from slimformer.recipe import read_recipe

    page = (ROOT / "docs" / "dynabert.md").read_text(encoding="utf-8")
    files = re.findall(r"`((?:slimformer|plugins|recipes|tests)/[^` ]+)`", page) + re.findall(r"`python ([^\s`]+)", page)
    assert len(files) > 30
    assert [file for file in files if not (ROOT / file).is_file()] == []
    options = re.findall(r"`([a-z_]+(?:\.[a-z_0-9]+)+=[^`]+)`", page)
    assert len(options) > 20
    for option in options:
        read_recipe(ROOT / "recipes" / "dynabert_glue.toml", [option])


def _wide() -> dict[str, str]:
    import os

    return os.environ | {"COLUMNS": "200", "NO_COLOR": "1", "TERMINAL_WIDTH": "200"}
