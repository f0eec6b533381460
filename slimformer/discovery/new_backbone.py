"""`slimformer new-backbone`: a package with a backbone and its test, to start from."""

from __future__ import annotations

import re
from importlib.resources import files
from pathlib import Path
from string import Template

from slimformer.backbones.base import BACKBONES
from slimformer.errors import PluginError
from slimformer.files import write_text, writing

PLACES = {
    "pyproject.toml.tmpl": "pyproject.toml",
    "README.md.tmpl": "README.md",
    "package.py.tmpl": "slimformer_$name/__init__.py",
    "test.py.tmpl": "tests/test_$name.py",
}


def new_backbone(name: str, to: Path) -> list[Path]:
    """Write the template package of a backbone into a new or empty folder; returns the files.

    Raises: PluginError for a name that is taken or no identifier, or a folder that holds something.
    """
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise PluginError(f"{name!r} is no name for a backbone: write lower-case letters, digits and _, for example gpt_neox")
    if name in BACKBONES.names():
        raise PluginError(f"a backbone is already called {name!r}: take another name (see 'slimformer list backbones')")
    if to.exists() and (not to.is_dir() or any(to.iterdir())):
        raise PluginError(f"{to} exists and is not an empty folder: give another one with --to")
    words = name.split("_")
    values = {
        "name": name, "dashed": name.replace("_", "-"), "camel": "".join(map(str.capitalize, words)), "title": name.replace("_", " "),
    }  # fmt: skip
    written = []
    for source, place in PLACES.items():
        path = to / Template(place).substitute(values)
        text = files("slimformer.discovery").joinpath("template", source).read_text(encoding="utf-8")
        with writing(path):
            write_text(path, Template(text).substitute(values))
        written.append(path)
    return written
