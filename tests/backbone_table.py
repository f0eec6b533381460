"""The table of docs/backbones.md: which axes each family has, and where the laws hold, found by checking them.

    python -m tests.backbone_table --write docs/backbones.md

Without `--write` it prints the page. A law that breaks is named in its cell, and the exit code is 1.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from slimformer import load_plugins, testing
from slimformer.backbones import Topology, backbone_for
from tests.families import FAMILIES, Family, few_specs

AXES = {
    "heads": "heads", "cross": "cross-attention heads", "ffn": "neurons", "experts": "experts", "shared": "shared neurons",
    "depth": "blocks",
}  # fmt: skip
"""The columns of axes, by what a topology calls them."""

CHECKS: dict[str, Callable[[Family], Any]] = {
    "eager": lambda family: family.build("eager"),
    "sdpa": lambda family: family.build("sdpa"),
    "bfloat16": lambda family: family.build("eager").to(torch.bfloat16),
}
INTRODUCTION = f"""# Backbones

The result of `python -m tests.backbone_table --write docs/backbones.md`, which checks the nine laws (and, for models that generate
text, that a cache changes no token) on a tiny model of each family, with random weights, on uniform and on random per-layer
sub-networks. A family is one file of `plugins/`.

* The columns of axes: "yes" where the family offers the axis, and the laws hold along it; "2 stacks" where an encoder and a
  decoder, or two towers, have one each (`width.encoder.heads`, `depth.text`), so that a recipe may choose all of them
  (`width`), those of a stack (`width.text`), or one.
* eager, sdpa: the laws with that attention, in float32 (differences up to {testing.TOLERANCES[torch.float32]:g} of the largest
  output count as float error); bfloat16: with eager attention (up to {testing.TOLERANCES[torch.bfloat16]:g}). "no such class":
  transformers has no such attention for the family. "but law 2": in bfloat16 two experts may have equal scores, and then their
  order decides, so that rewiring them changes outputs.

On real weights: `python -m slimformer.testing CHECKPOINT`.

"""


def page(holds: Callable[[str, str], str]) -> str:
    """The page; `holds(family, check)` says what a check found, "yes" or the law that is broken."""
    header = ["family", "class", *AXES.values(), *CHECKS, "cache"]
    rows = [header, ["---"] * len(header), *(_row(name, holds) for name in FAMILIES)]
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    return f"{INTRODUCTION}{table}\n\n## Notes on each family\n\n{_notes()}"


def _row(name: str, holds: Callable[[str, str], str]) -> list[str]:
    family, model = FAMILIES[name], FAMILIES[name].build("eager")
    topology = backbone_for(model).topology(model)
    kinds = [holds(name, kind) if kind in ("bfloat16", *family.attentions) else "no such class" for kind in CHECKS]
    cache = holds(name, "cache") if testing.generates(model) else ""
    if family.is_routed:
        kinds[-1] += ", but law 2"
    return [name, f"`{type(model).__name__}`", *(_offer(topology, axis) for axis in AXES), *kinds, cache]


def _offer(topology: Topology, axis: str) -> str:
    found = [name for name in topology.axes if axis in name.split(".")]
    towers = {group.axis.split(".")[1] for group in topology.groups if group.axis.count(".") > 1}
    return f"{len(found)} stacks" if len(found) > 1 and towers else "yes" if found else ""


def _notes() -> str:
    said = {type(backbone_for(model)): type(backbone_for(model)).__doc__ or "" for model in _models()}
    lines = [" ".join(doc.split()) for doc in said.values()]
    return "".join(f"* {line}\n" for line in lines)


def _models() -> list[Any]:
    return [family.build("eager") for family in FAMILIES.values()]


def found(name: str, check: str) -> str:
    """What a check finds: "yes", or the law that is broken."""
    model = CHECKS.get(check, CHECKS["eager"])(FAMILIES[name])
    case = testing.Case.of(backbone_for(model), model, specs=few_specs(model))
    laws = {"cache": (testing.check_generation,), "bfloat16": FAMILIES[name].bfloat16_laws}.get(check, testing.LAWS)
    try:
        for law in laws:
            law(case)
    except AssertionError as error:
        return str(error).partition(" is broken")[0]
    return "yes"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.backbone_table", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--write", type=Path, metavar="FILE", help="write the page there instead of printing it")
    options = parser.parse_args()
    load_plugins()
    broken: list[str] = []

    def noted(name: str, check: str) -> str:
        result = found(name, check)
        print(f"{name}, {check}: {result}", file=sys.stderr, flush=True)
        broken.extend([name] * (result != "yes"))
        return result

    text = page(noted)
    if options.write:
        there = options.write.read_text(encoding="utf-8") if options.write.exists() else ""
        _, title, proposed = there.partition("\n## Proposed")  # the section of tests.proposal_table stays
        options.write.write_text(text + title + proposed, encoding="utf-8")
    else:
        print(text)
    return int(bool(broken))


if __name__ == "__main__":
    sys.exit(main())
