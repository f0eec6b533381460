"""The template package: its test passes once it is installed, and wrong names and folders are refused."""

from __future__ import annotations

import runpy
import tomllib
from pathlib import Path

import pytest

from slimformer import load_plugins
from slimformer.backbones import BACKBONES
from slimformer.discovery.new_backbone import new_backbone
from slimformer.errors import PluginError


def install(package: Path) -> None:
    """What an installer writes for the package's entry points, so that no build back end is needed."""
    project = tomllib.loads((package / "pyproject.toml").read_text())["project"]
    info = package / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    lines = [
        f"[{group}]\n" + "".join(f"{k} = {v}\n" for k, v in points.items()) for group, points in project["entry-points"].items()
    ]
    (info / "entry_points.txt").write_text("\n".join(lines))


def test_the_template_installs_and_its_test_passes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = new_backbone("my_family", tmp_path)
    assert {path.relative_to(tmp_path).as_posix() for path in written} == {
        "README.md", "pyproject.toml", "slimformer_my_family/__init__.py", "tests/test_my_family.py",
    }  # fmt: skip
    install(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(BACKBONES, "_classes", dict(BACKBONES._classes))
    load_plugins.cache_clear()
    try:
        runpy.run_path(str(tmp_path / "tests" / "test_my_family.py"))["test_the_laws_hold"]()
        assert "my_family" in load_plugins()
    finally:
        load_plugins.cache_clear()


@pytest.mark.parametrize(("name", "said"), [("My-Family", "lower-case letters"), ("bert", "already called 'bert'")])
def test_a_name_that_is_taken_or_no_identifier_is_refused(tmp_path: Path, name: str, said: str) -> None:
    with pytest.raises(PluginError, match=said):
        new_backbone(name, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_folder_that_holds_something_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(PluginError, match="is not an empty folder"):
        new_backbone("my_family", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
