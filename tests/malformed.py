"""Seeded mutations of everything that the command line reads: recipes, overrides, arguments, data, checkpoints, run folders."""

from __future__ import annotations

import json
import random
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import tomlkit

ODD_TEXTS = (
    "", " ", "x", "..", ".", "/", "a/b", "a" * 300, "a\nb", "\x1b[31mred", "\u202e", "\udcff", "é", "-1", "0", "1e999", "nan",
    "[]", "{}", "null", "true", "file", "folder", "none.toml", "whole", "model", "recipe.toml", "data.csv", "'", '"', "%s", "{0}",
    "[bold]", "w0.5", "w9", "w0.5-w0.5", "=", "a=b", "9" * 400, "--", "@", "~", "*", "$HOME", "package:x/y", "new:", "new:model",
)  # fmt: skip
ODD_VALUES: tuple[Any, ...] = (
    None, [], {}, "", "x", "a" * 5000, "a\nb", -1, 0, 7, True, 10**400, 2**64, -(2**63), 0.5, 1e300, float("nan"), float("inf"), [1],
    [[]], [None], {"a": 1}, {"name": "x"}, {"name": []}, ["x", "x"], "\x00", "\ud800", "../x", [[[[1]]]],
)  # fmt: skip
NOISE = (
    b"\x00",
    b"\xff\xfe",
    b"{",
    b"}",
    b'"',
    b"'",
    b"[",
    b"]",
    b"nan",
    b"=",
    b"\n",
    b",",
    b"#",
    b"\r",
    b"\xef\xbb\xbf",
    b"-",
    b"9" * 30,
    b"\t",
)


def places(value: object, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of every value in parsed JSON or TOML."""
    yield path
    parts: Any = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in parts:
        yield from places(part, (*path, key))


def changed(value: Any, path: tuple[Any, ...], draw: random.Random, odd: tuple[Any, ...] = ODD_VALUES) -> Any:
    """A parsed document with the value at a path deleted, renamed or replaced."""
    if not path:
        return draw.choice(odd)
    key, *rest = path
    copy = dict(value) if isinstance(value, dict) else list(value)
    kind = draw.random()
    if rest:
        copy[key] = changed(copy[key], tuple(rest), draw, odd)
    elif kind < 0.15:
        del copy[key]
    elif kind < 0.3 and isinstance(copy, dict):
        copy[draw.choice(("x", "", f"{key}s", "a.b", "\x1b[1m"))] = copy.pop(key)
    else:
        copy[key] = draw.choice(odd)
    return copy


def noisy(data: bytes, draw: random.Random) -> bytes:
    """Bytes that are cut, lack a part, have a part twice, or have noise at some places."""
    kind = draw.randrange(5)
    at = draw.randrange(len(data) + 1)
    if kind == 0:
        return data[:at]
    if kind == 1:
        return data[:at] + data[at + draw.randrange(1, 80) :]
    lines = data.splitlines(keepends=True)
    row = draw.randrange(len(lines)) if lines else 0
    if kind == 2:
        return b"".join(lines[:row] + lines[row + 1 :])
    if kind == 3:
        return b"".join(lines[: row + 1] + lines[row:])
    for _ in range(draw.randrange(1, 4)):
        at = draw.randrange(len(data) + 1)
        data = data[:at] + draw.choice(NOISE) + data[at + draw.randrange(8) :]
    return data


Case = Callable[[Path, random.Random], list[str]]
"""Changes files of a project's folder and returns the arguments of a command that reads them."""


def dry_run(recipe: str = "recipe.toml") -> list[str]:
    return ["run", recipe, "--dry-run", "--out", "out"]


def recipe_text(folder: Path, draw: random.Random) -> list[str]:
    file = folder / "recipe.toml"
    file.write_bytes(draw.choice([b"", b"\xff", b"\x00"]) if draw.random() < 0.03 else noisy(file.read_bytes(), draw))
    return dry_run()


def recipe_value(folder: Path, draw: random.Random) -> list[str]:
    file = folder / "recipe.toml"
    table = tomllib.loads(file.read_text())
    table["extends"] = draw.choice(["none.toml", "recipe.toml", ".", "", 1])
    table["plugins"] = draw.choice([[], ["none.py"], [1], "x", ["data.csv"]])
    where = draw.choice([path for path in places(table) if path])
    if where[0] not in ("extends", "plugins"):
        del table["extends"], table["plugins"]
    table = changed(table, where, draw)
    try:
        file.write_bytes(tomlkit.dumps(table).encode("utf-8", "surrogatepass"))
    except Exception:  # TOML cannot say this value
        file.write_bytes(noisy(file.read_bytes(), draw))
    return dry_run()


def override(folder: Path, draw: random.Random) -> list[str]:
    table = tomllib.loads((folder / "recipe.toml").read_text())
    keys = [".".join(map(str, path)) for path in places(table) if path] + ["stage.width.training.epochs", "schedule", "plugins"]
    arguments = dry_run()
    for _ in range(draw.randrange(1, 3)):
        key = draw.choice([*keys, draw.choice(keys) + "." + draw.choice(("x", "0", "-1", "name", "")), draw.choice(ODD_TEXTS)])
        value = draw.choice([draw.choice(ODD_TEXTS), in_toml(draw.choice(ODD_VALUES))])
        arguments += ["--set", key + draw.choice(("=", "=", "=", "==", "")) + value]
    return arguments


def in_toml(value: Any) -> str:
    try:
        return tomlkit.item(value).as_string()
    except Exception:  # TOML cannot say this value
        return repr(value)


COMMANDS: tuple[tuple[str, ...], ...] = (
    ("run", "?"), ("run", "recipe.toml", "--dry-run", "--out", "?"), ("run", "recipe.toml", "--dry-run", "--from", "?"),
    ("evaluate", "--run", "?"), ("evaluate", "--run", "whole", "--subnet", "?"), ("evaluate", "--run", "whole", "--split", "?"),
    ("export", "--run", "whole", "--to", "?"), ("export", "--run", "?", "--to", "cut"), ("export", "--run", "whole", "--to", "cut", "--dtype", "?"),
    ("export", "--run", "whole", "--subnet", "?", "--to", "cut"), ("compare", "?"), ("compare", "whole", "?"), ("compare", "whole", "--plot", "?"),
    ("list", "?"), ("list", "?", "--options", "--json"), ("inspect", "?"), ("inspect", "model", "--length", "?"),
    ("inspect", "model", "--set", "?"), ("inspect", "model", "--set", "hidden=?"), ("inspect", "model", "--plugin", "?"),
    ("inspect", "?", "--write", "?"), ("new-backbone", "?"), ("new-backbone", "mine", "--to", "?"), ("?",), ("?", "?"), ("--?",),
    ("search", "--run", "?"), ("search", "--run", "whole", "--max-flops", "?"), ("search", "--run", "whole", "--max", "?"),
    ("search", "--run", "whole", "--max", "params=?"), ("search", "--run", "whole", "--like", "?", "--max-ratings", "2", "--probe", "4"),
    ("search", "--run", "whole", "--minimise", "?", "--min-metric", "1"), ("search", "--run", "whole", "--min-metric", "?", "--minimise", "params", "--max-ratings", "2", "--probe", "4"),
    ("search", "--run", "whole", "--strategy", "?", "--max-ratings", "2"), ("search", "--run", "whole", "--seed", "?", "--max-ratings", "2", "--probe", "4"),
    ("search", "--run", "whole", "--blocks", "?"), ("search", "--run", "whole", "--multiple", "?"), ("search", "--run", "whole", "--multiple", "width.ffn=?"),
    ("search", "--run", "whole", "--set", "?"), ("search", "--run", "whole", "--set", "latency.threads=?"), ("search", "--run", "whole", "--rate-by", "?"),
    ("search", "--run", "whole", "--length", "?", "--max-ratings", "2", "--probe", "4"), ("search", "--run", "whole", "--storage", "?", "--max-ratings", "2", "--probe", "4"),
    ("attention", "whole", "--sentence", "?", "--examples", "0"), ("attention", "whole", "--sentence", "a cat", "--block", "?", "--examples", "0"),
    ("attention", "?", "--sentence", "a"), ("attention", "whole", "--sentence", "a cat", "--subnet", "?", "--examples", "0"),
    ("augment", "?", "--to", "new.jsonl"), ("augment", "recipe.toml", "--to", "?", "--masked-lm", "none"), ("augment", "recipe.toml", "--to", "new.jsonl", "--vectors", "?"),
    ("augment", "recipe.toml", "--to", "new.jsonl", "--masked-lm", "?"),
)  # fmt: skip


def arguments(folder: Path, draw: random.Random) -> list[str]:
    return [part.replace("?", draw.choice(ODD_TEXTS)) for part in draw.choice(COMMANDS)]


TASKS = {
    "data.csv": "text_files",
    "data.tsv": "text_files",
    "data.jsonl": "text_files",
    "data.json": "text_files",
    "words.conll": "token_files",
    "words.jsonl": "token_files",
    "text.txt": "causal_lm",
    "squad/train-v1.1.json": "squad",
}


def write_data(folder: Path) -> None:
    """Good data of every kind, and a recipe for each."""
    rows = [{"text": f"{'good' if i % 2 else 'bad'} film {i % 7}", "label": "yes" if i % 2 else "no"} for i in range(40)]
    words = [{"tokens": ["a", "cat", "is"], "tags": ["O", "B-X" if i % 2 else "B-Y", "O"]} for i in range(30)]
    (folder / "data.csv").write_text("text,label\n" + "".join(f'"{row["text"]}",{row["label"]}\n' for row in rows))
    (folder / "data.tsv").write_text("text\tlabel\n" + "".join(f"{row['text']}\t{row['label']}\n" for row in rows))
    (folder / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "data.json").write_text(json.dumps(rows))
    (folder / "words.jsonl").write_text("".join(json.dumps(row) + "\n" for row in words))
    lines = ("".join(f"{w} {t}\n" for w, t in zip(row["tokens"], row["tags"], strict=True)) for row in words)
    (folder / "words.conll").write_text("\n".join(lines))
    (folder / "text.txt").write_text("the cat is good\n" * 200)
    (folder / "squad").mkdir()
    answers = [{"text": "cat", "answer_start": 4}]
    question = {"question": "is the dog good", "answers": answers}
    paragraphs = [{"context": "the cat is good", "qas": [question | {"id": str(i)}]} for i in range(20)]
    for name in ("train", "dev"):
        (folder / "squad" / f"{name}-v1.1.json").write_text(json.dumps({"data": [{"title": "x", "paragraphs": paragraphs}]}))


def task_of(name: str) -> dict[str, Any]:
    if TASKS[name] == "squad":
        return {"name": "squad", "path": "squad", "max_length": 16, "stride": 4, "max_answer": 3}
    if TASKS[name] == "causal_lm":
        return {"name": "causal_lm", "train": name, "window": 8}
    return {"name": TASKS[name], "train": name, "max_length": 8}


def task_data(folder: Path, draw: random.Random) -> list[str]:
    name = draw.choice(list(TASKS))
    file = folder / name
    table = tomllib.loads((folder / "recipe.toml").read_text()) | {"task": task_of(name)}
    (folder / "other.toml").write_text(tomlkit.dumps(table))
    data = file.read_bytes()
    kind = draw.random()
    if kind < 0.1:
        data = draw.choice(
            [
                b"",
                b"\n",
                b"\x00",
                b"\xef\xbb\xbf" + data,
                b"\xff\xfe" + data,
                data.splitlines(keepends=True)[0],
                data.decode().encode("utf-16"),
            ]
        )
    elif kind < 0.5 or not name.endswith((".json", ".jsonl")):
        data = noisy(data, draw)
    elif name.endswith(".jsonl"):
        lines = data.splitlines()
        row = draw.randrange(len(lines))
        value = json.loads(lines[row])
        lines[row] = dumped(changed(value, draw.choice([*places(value)]), draw))
        data = b"\n".join(lines) + b"\n"
    else:
        value = json.loads(data)
        data = dumped(changed(value, draw.choice([*places(value)]), draw))
    file.write_bytes(data)
    return dry_run("other.toml")


def dumped(value: Any) -> bytes:
    return json.dumps(value).encode()


SMALL = tuple(value for value in ODD_VALUES if not (isinstance(value, int | float) and abs(value) > 1000) or value == 10**400)


def checkpoint(folder: Path, draw: random.Random) -> list[str]:
    name = draw.choice(
        ("config.json", "config.json", "config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json")
    )
    file = folder / "model" / name
    kind = draw.random()
    if kind < 0.07:
        file.unlink()
    elif kind < 0.12:
        file.unlink()
        file.mkdir()
    elif name.endswith(".json") and kind < 0.8:
        value = json.loads(file.read_text())
        where = draw.choice([path for path in places(value) if len(path) < 4])
        file.write_bytes(dumped(changed(value, where, draw, SMALL)))
    else:
        file.write_bytes(noisy(file.read_bytes(), draw))
    return draw.choice((dry_run(), ["inspect", "model", "--length", "8"]))


RUN_FILES = {
    "results.json": ("compare", "evaluate"),
    "done.json": ("evaluate", "dry"),
    "ratings.jsonl": ("evaluate",),
    "metrics.jsonl": ("compare",),
    "recipe.toml": ("evaluate", "compare", "dry"),
    "rewiring.json": ("search",),
    "scores.safetensors": ("search",),
    "supernet/config.json": ("evaluate", "export"),
    "supernet/model.safetensors": ("evaluate",),
    "supernet/tokenizer.json": ("evaluate", "export"),
    "subnet.json": ("export",),
}


def run_folder(folder: Path, draw: random.Random) -> list[str]:
    name = draw.choice(list(RUN_FILES))
    file = folder / "whole" / name
    kind = draw.random()
    if kind < 0.05:
        file.unlink()
    elif kind < 0.08:
        file.unlink()
        file.mkdir()
    elif name.endswith(".json") and kind < 0.8:
        value = json.loads(file.read_text())
        where = draw.choice([path for path in places(value) if len(path) < 5])
        file.write_bytes(dumped(changed(value, where, draw, SMALL)))
    else:
        file.write_bytes(noisy(file.read_bytes(), draw))
    return {
        "compare": ["compare", "whole"],
        "evaluate": ["evaluate", "--run", "whole", "--subnet", "w0.5"],
        "dry": ["run", "recipe.toml", "--dry-run", "--out", "whole", "--from", "whole"],
        "search": ["search", "--run", "whole", "--max-params", "100M", "--max-ratings", "2", "--probe", "4", "--quiet"],
        "export": ["export", "--run", "whole", "--subnet", "whole/subnet.json", "--to", "cut"],
    }[draw.choice(RUN_FILES[name])]


KINDS: dict[str, Case] = {
    "recipe_text": recipe_text,
    "recipe_value": recipe_value,
    "override": override,
    "arguments": arguments,
    "task_data": task_data,
    "checkpoint": checkpoint,
    "run_folder": run_folder,
}
SHARES = {
    "recipe_text": 130,
    "recipe_value": 150,
    "override": 130,
    "arguments": 240,
    "task_data": 150,
    "checkpoint": 100,
    "run_folder": 100,
}
"""The number of mutations of each kind; a thousand in all."""
