"""Files that a run has read: a change in place is noticed, a copy or a missing file is none."""

import os

import pytest

from slimformer.errors import RunError
from slimformer.recipe import parse_recipe
from slimformer.runs.folder import RunFolder
from slimformer.runs.recipe_file import begin
from slimformer.runs.sources import check_sources, note_sources


@pytest.fixture
def noted(tmp_path):
    """A run folder whose recipe reads a checkpoint and a table."""
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    (tmp_path / "model" / "model.safetensors").write_bytes(b"weights")
    (tmp_path / "train.csv").write_text("text,label\na,b\n")
    task = {"name": "text_files", "train": str(tmp_path / "train.csv")}
    recipe = parse_recipe(
        {"name": "x", "model": {"checkpoint": str(tmp_path / "model")}, "task": task, "space": {"width": [1.0]}}
    )
    folder = RunFolder(tmp_path / "run")
    begin(folder, recipe)
    note_sources(recipe, folder)
    return folder


@pytest.mark.parametrize("name", ["train.csv", "model/model.safetensors"])
def test_a_file_that_changed_in_place_is_named(noted, tmp_path, name):
    check_sources(noted)
    file = tmp_path / name
    before = file.stat()
    file.write_bytes(file.read_bytes()[::-1])
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    with pytest.raises(RunError, match=rf"{name} has changed since the run in .* read it: give another --out folder"):
        check_sources(noted)


def test_a_file_that_was_only_copied_or_is_gone_has_not_changed(noted, tmp_path):
    os.utime(tmp_path / "train.csv", ns=(0, 0))
    (tmp_path / "model" / "model.safetensors").unlink()
    check_sources(noted)


def test_a_run_without_a_note_goes_on(noted):
    noted.sources.unlink()
    check_sources(noted)


def test_a_note_does_not_make_a_folder_one_that_has_computed_something(noted):
    assert noted.is_untouched()
