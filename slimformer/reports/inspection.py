"""The text of `slimformer inspect`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any


def inspection_lines(found: dict[str, Any]) -> Iterable[Any]:
    """An inspection for people."""
    from rich.table import Table
    from rich.text import Text

    from slimformer.costs.quantity import format_cost

    costs = list(found["units"])
    axes = Table(title=f"{found['class']} (backbone {found['backbone']})")
    for column in ("axis", "groups", "units in each", "touches parameters", *(f"elastic {cost}" for cost in costs)):
        axes.add_column(column, justify="left" if column == "axis" else "right")
    for row in found["axes"]:
        shares = (row["share"], *(row["elastic"][cost] for cost in costs))
        axes.add_row(row["axis"], str(row["groups"]), row["units"], *(f"{100 * share:.1f} %" for share in shares))
    yield axes
    yield "elastic: what falls away with the fewest units in each group and one block in each stack"
    for name, reason in found.get("stays whole", {}).items():
        yield f"{name} stays whole: {reason}"
    groups = Table(title="unit groups")
    for column in ("group", "axis", "units", "parameter[begin:end:entries of a unit]"):
        groups.add_column(column, justify="right" if column == "units" else "left")
    for row in found["patterns"]:
        name = f"{row['name']} ({row['groups']})"
        groups.add_row(name, row["axis"], str(row["units"]), Text("\n".join(row["slices"])), end_section=True)
    yield groups
    for name, stack in found["stacks"].items():
        yield f"block stack {name} (axis {stack['axis']}): {stack['blocks']} blocks in {stack['path']}"
    prices = Table(title=f"costs at batch 1, length {found['length']}")
    for column in ("sub-network", *costs):
        prices.add_column(column, justify="left" if column == "sub-network" else "right")
    for row in found["extremes"]:
        prices.add_row(row["name"], *(format_cost(value, found["units"][name]) for name, value in row["costs"].items()))
    yield prices
    yield "; ".join(f"{name}: {unit}" for name, unit in found["units"].items())
    yield from _proposal_lines(found)
    if "laws" in found:
        yield "all {held} laws hold on {specs} sub-networks, with {weights} weights, in {seconds:.0f} s".format(**found["laws"])


def _proposal_lines(found: dict[str, Any]) -> Iterable[str]:
    from rich.markup import escape

    if "proposal" not in found:
        return
    proposal = found["proposal"]
    yield "no backbone was taken: this topology was found by tracing, and all laws held on random weights"
    for refusal in proposal["refused"]:
        yield escape(f"  stays whole: {refusal['module']}: {refusal['reason']}")
    where = f"it is in {proposal['plugin']}" if proposal["plugin"] else "keep it with --write FILE.py"
    yield f"the plugin that says it: {where}; name that file under `plugins` in a recipe"
