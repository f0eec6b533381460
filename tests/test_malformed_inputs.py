"""A thousand wrong inputs: each ends with one line and an exit code, never with a traceback, and changes no input file."""

from __future__ import annotations

import io
import json
import os
import random
import shutil
import sys
from contextlib import redirect_stderr, redirect_stdout

import pytest

from slimformer.cli import main
from tests.malformed import KINDS, SHARES, write_data

RECIPE = """
name = "tiny"
seed = 3
[model]
checkpoint = "model"
[task]
name = "text_files"
train = "data.csv"
max_length = 8
[space]
width = [1.0, 0.5]
[finetune]
max_steps = 1
[importance]
scorer = { name = "first_order", reduction = "abs_of_sum" }
[rewiring]
name = "sort"
[[stage]]
name = "width"
axes = ["width"]
terms = ["soft_cross_entropy", { name = "hidden_mse", weight = 0.1 }]
training = { max_steps = 1 }
[machine]
batch_size = 16
precision = "fp32"
log_steps = 1
[evaluation]
costs = ["params"]
workload = { batch_size = 1, length = 8 }
"""
FIRST = int(os.environ.get("MALFORMED_FIRST", "0"))
"""Added to every seed, to try other mutations than those of the suite."""
FEW = 17
"""Mutations of each kind in the default suite."""


@pytest.fixture(scope="module")
def project(tmp_path_factory, checkpoint):
    """A folder with a checkpoint, data, a recipe and its finished run."""
    folder = tmp_path_factory.mktemp("malformed") / "project"
    folder.mkdir()
    shutil.copytree(checkpoint, folder / "model")
    write_data(folder)
    (folder / "recipe.toml").write_text(RECIPE)
    (folder / "file").write_text("kept")
    (folder / "folder").mkdir()
    code, _, said = command(folder, "run", "recipe.toml", "--out", "whole", "--quiet")
    assert code == 0, said
    results = json.loads((folder / "whole" / "results.json").read_text())
    (folder / "whole" / "subnet.json").write_text(json.dumps(results["rows"][1]["spec"]))
    return folder


def command(folder, *arguments):
    """The exit code, stdout and stderr of a command run in this process."""
    stdout, stderr, code = io.StringIO(), io.StringIO(), 0
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(stdout), redirect_stderr(stderr):
        patch.chdir(folder)
        patch.setenv("SLIMFORMER_DEBUG", "1")
        patch.setattr(sys, "argv", ["slimformer", *arguments])
        try:
            main()
        except SystemExit as stop:
            code = stop.code or 0
    return code, stdout.getvalue(), stderr.getvalue()


def inputs(folder):
    """The bytes of every file that a command may read but not write; only a run's own folder gets files."""
    files = (file for file in folder.rglob("*") if file.is_file())
    return {str(file): file.read_bytes() for file in files if file.relative_to(folder).parts[0] != "whole"}


def check(project, tmp_path, kind, number):
    draw = random.Random(f"{kind} {FIRST + number}")
    folder = tmp_path / "above" / "case"
    shutil.copytree(project, folder)
    arguments = KINDS[kind](folder, draw)
    before = inputs(folder)
    code, stdout, stderr = command(folder, *arguments)
    told = (arguments, code, stderr[-3000:])
    assert code in (0, 2, 3), told
    assert "Traceback" not in stderr, told
    assert "fault of slimformer" not in stderr, told
    assert "\x1b" not in stderr, told
    errors = [line for line in stderr.splitlines() if line.startswith("slimformer: ") and ": warning: " not in line]
    assert len(errors) == (code != 0), told
    assert code == 0 or "--json" not in arguments or stdout == "", told
    after = inputs(folder)
    assert {name: after.get(name) for name in before} == before, told


@pytest.mark.parametrize("number", range(FEW))
@pytest.mark.parametrize("kind", list(KINDS))
def test_a_wrong_input_is_one_line_and_never_a_traceback(project, tmp_path, kind, number):
    check(project, tmp_path, kind, number)


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "number"), [(kind, n) for kind, share in SHARES.items() for n in range(FEW, share)])
def test_every_wrong_input_is_one_line_and_never_a_traceback(project, tmp_path, kind, number):
    check(project, tmp_path, kind, number)


def test_there_are_a_thousand_mutations():
    assert sum(SHARES.values()) == 1000
