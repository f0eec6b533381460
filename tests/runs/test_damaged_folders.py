"""Files of a finished run with values of the wrong shape: every command answers with one line, and never with a traceback."""

from __future__ import annotations

import io
import json
import random
import shutil
import sys
from contextlib import redirect_stderr, redirect_stdout

import pytest

from slimformer.cli import main

RECIPE = """
name = "tiny"
[model]
checkpoint = {checkpoint}
[task]
name = "text_files"
train = "train.csv"
validation = "train.csv"
max_length = 8
[space]
width = [1.0, 0.5]
[finetune]
max_steps = 1
[[stage]]
name = "width"
axes = ["width"]
terms = ["soft_cross_entropy"]
training = {{ max_steps = 1 }}
[machine]
batch_size = 16
precision = "fp32"
log_steps = 1
[evaluation]
workload = {{ batch_size = 1, length = 8 }}
"""
READERS = {
    "results.json": ("compare", "evaluate", "search", "run"),
    "done.json": ("continue", "evaluate"),
    "ratings.jsonl": ("continue", "evaluate", "search"),
    "metrics.jsonl": ("compare", "continue"),
    "recipe.toml": ("evaluate", "compare", "run"),
    "rewiring.json": ("continue", "search"),
    "scores.safetensors": ("search",),
    "sources.json": ("run", "continue"),
    "subnet.json": ("export",),
}
ROUNDS = 6


@pytest.fixture(scope="module")
def project(tmp_path_factory, checkpoint):
    folder = tmp_path_factory.mktemp("damaged")
    lines = [f"{'good' if i % 2 else 'bad'} film {'cat' if i % 3 else 'dog'},{'yes' if i % 2 else 'no'}" for i in range(60)]
    (folder / "train.csv").write_text("\n".join(["text,label", *lines]))
    (folder / "recipe.toml").write_text(RECIPE.format(checkpoint=json.dumps(checkpoint)))
    code, _ = command(folder, "run", "recipe.toml", "--out", "whole", "--quiet")
    assert code == 0
    results = json.loads((folder / "whole" / "results.json").read_text())
    (folder / "whole" / "subnet.json").write_text(json.dumps(results["rows"][1]["spec"]))
    return folder


def command(folder, *arguments):
    """The exit code of a command run in this process, and what it wrote to stderr; an exception that is no exit is raised."""
    stdout, stderr = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(stdout), redirect_stderr(stderr):
        patch.chdir(folder)
        patch.setattr(sys, "argv", ["slimformer", *arguments])
        try:
            main()
        except SystemExit as stop:
            return stop.code or 0, stderr.getvalue()
    return 0, stderr.getvalue()


def arguments(reader):
    return {
        "run": ("run", "recipe.toml", "--out", "hurt", "--quiet"),
        "continue": ("run", "recipe.toml", "--out", "hurt", "--quiet"),
        "compare": ("compare", "hurt", "whole"),
        "evaluate": ("evaluate", "--run", "hurt", "--subnet", "w0.5"),
        "search": ("search", "--run", "hurt", "--max-params", "100M", "--max-ratings", "3", "--probe", "4", "--quiet"),
        "export": ("export", "--run", "whole", "--subnet", "hurt/subnet.json", "--to", "cut"),
    }[reader]


def places(value, path=()):
    """The path of every value in parsed JSON."""
    yield path
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in parts:
        yield from places(part, (*path, key))


def changed(value, path, draw):
    """Parsed JSON with the value at a path deleted or replaced by one of another kind."""
    if not path:
        return draw.choice([None, [], {}, "x", 7, [[1]], {"a": {"b": None}}])
    key, *rest = path
    copy = dict(value) if isinstance(value, dict) else list(value)
    if not rest and draw.random() < 0.3:
        del copy[key]
    elif not rest:
        copy[key] = draw.choice(
            [None, [], {}, "x", "a" * 5000, -1, 0, True, 10**400, float("nan"), float("inf"), [1], {"a": 1}]
        )
    else:
        copy[key] = changed(copy[key], tuple(rest), draw)
    return copy


def damage(data, name, draw):
    """The bytes of a file: cut, with noise, or with one value of another shape."""
    kind = draw.random()
    if kind < 0.15:
        return data[: draw.randrange(len(data))]
    if kind < 0.3 or name.endswith((".toml", ".safetensors")):
        at = draw.randrange(len(data))
        return data[:at] + draw.choice([b"\x00", b"\xff\xfe", b"{", b'"', b"[", b"nan"]) + data[at + draw.randrange(8) :]
    lines = data.decode().splitlines() if name.endswith("lines") or name.endswith("jsonl") else [data.decode()]
    row = draw.randrange(len(lines))
    value = json.loads(lines[row])
    lines[row] = json.dumps(changed(value, draw.choice(list(places(value))), draw))
    return ("\n".join(lines) + "\n").encode()


@pytest.mark.parametrize("name", list(READERS))
def test_a_damaged_file_is_one_line_and_never_a_traceback(project, name):
    draw = random.Random(name)
    refused = 0
    for number in range(ROUNDS):
        reader = READERS[name][number % len(READERS[name])]
        hurt = project / "hurt"
        shutil.rmtree(hurt, ignore_errors=True)
        shutil.copytree(project / "whole", hurt)
        if reader == "continue":
            (hurt / "results.json").unlink()
        text = damage((hurt / name).read_bytes(), name, draw)
        (hurt / name).write_bytes(text)
        try:
            code, said = command(project, *arguments(reader))
        except Exception as error:
            raise AssertionError(f"{reader} with {name} = {text[:3000]!r}: {error!r}") from error
        assert code in (0, 2, 3), (reader, text, said)
        assert "fault of slimformer" not in said, (reader, text, said)
        errors = [line for line in said.splitlines() if line.startswith("slimformer: ")]
        assert len(errors) == (code != 0), (reader, text, said)
        refused += code != 0
    assert refused > 0
