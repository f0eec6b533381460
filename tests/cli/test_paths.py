"""Paths of the command line that are empty, too long, below a file or of the wrong kind: one line each, nothing written."""

import json
from pathlib import Path

import pytest

from tests.cli.test_app import one_line, slimformer  # noqa: F401  a fixture

RECIPE = (Path(__file__).parents[2] / "recipes" / "quickstart.toml").read_text()
ODD = ["", " ", "x" * 300, "file/below", "a\nb", "a\x1bb", "\udcff"]
WITH_PATH = [
    ("run", "r.toml", "--out"), ("run", "r.toml", "--from"), ("run",), ("search", "--storage"), ("search", "--run"),
    ("export", "--to"), ("export", "--to", "x", "--run"), ("evaluate", "--run"), ("compare",), ("compare", "a", "--plot"),
    ("inspect", "x", "--write"), ("inspect", "x", "--plugin"), ("new-backbone", "mine", "--to"), ("attention",),
    ("attention", "--to"), ("augment", "r.toml", "--to"), ("augment", "r.toml", "--to", "x", "--vectors"),
]  # fmt: skip


@pytest.fixture
def place(tmp_path):
    """A folder with a recipe, a file and a folder that is not empty."""
    (tmp_path / "r.toml").write_text(RECIPE)
    (tmp_path / "file").write_text("kept")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("kept")
    return tmp_path


def files(folder):
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


@pytest.mark.parametrize("command", WITH_PATH, ids=" ".join)
def test_an_odd_path_is_one_line_for_every_command_that_takes_one(slimformer, place, command):  # noqa: F811
    before = files(place)
    for odd in ODD:
        code, stdout, stderr = slimformer(*command, odd)
        assert (code, stdout) == (2, ""), odd
        assert "fault of" not in one_line(stderr), odd
        assert "Invalid value" in stderr, odd
    assert files(place) == before


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("run", "r.toml", "--out", "file"), "file is a file: give another --out folder"),
        (("run", "r.toml", "--dry-run", "--out", "file"), "file is a file: give another --out folder"),
        (("run", "full"), "no recipe can be read from full: Is a directory"),
        (("compare", "file"), "file"),
        (("evaluate", "--run", "file"), "file holds no run"),
        (("evaluate", "--run", "full"), "full holds no run"),
        (("inspect", "x", "--write", "full/none/x.py"), "lies in a folder that is not there"),
        (("compare", "full", "--plot", "file"), "--plot file: the file is no picture and stays"),
        (("inspect", "x", "--write", "full"), "write the name of a Python file"),
        (("inspect", "x", "--plugin", "full"), "there is no Python file full"),
        (("new-backbone", "mine", "--to", "file"), "file exists and is not an empty folder"),
        (("new-backbone", "mine", "--to", "."), "exists and is not an empty folder"),
        (("new-backbone", "mine", "--to", "full/.."), "exists and is not an empty folder"),
        (("new-backbone", "mine", "--to", "/proc/nothing"), "could not write /proc/nothing"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_a_path_of_the_wrong_kind_is_one_line(slimformer, place, arguments, said):  # noqa: F811
    before = files(place)
    code, stdout, stderr = slimformer(*arguments)
    assert (code, stdout) == (2, "")
    assert said in one_line(stderr)
    assert "fault of" not in stderr
    assert files(place) == before


@pytest.mark.parametrize("name", ["..", ".", "a/b", "/a", "", "a\nb", "a\x1bb", "x" * 300, "a b", "\\", "..."])
def test_no_name_of_a_recipe_or_a_stage_leads_out_of_its_folder(slimformer, place, name):  # noqa: F811
    for key in ("name", "stage.width.name"):
        code, stdout, stderr = slimformer("run", "r.toml", "--dry-run", "--set", f"{key}={json.dumps(name)}")
        assert (code, stdout) == (2, "")
        assert "string should " in one_line(stderr)
    assert not (place / "runs").exists()
