"""Write the pictures of a search."""

from __future__ import annotations

from pathlib import Path

from slimformer.files import write_text, write_whole
from slimformer.reports.search import (
    Outcome,
    page,
    plot_front,
    plot_layers,
)
from slimformer.supernet.spec import SubnetSpec
from slimformer.supernet.topology import Topology


def write_pictures(outcome: Outcome, topology: Topology, folder: Path) -> None:
    """Write pareto.png, pareto.html and winner.png."""
    spec = SubnetSpec.from_json(outcome["winner"]["spec"])
    write_whole(folder / "pareto.png", lambda partial: plot_front(outcome, partial))
    write_whole(folder / "winner.png", lambda partial: plot_layers(topology, spec, outcome["winner"]["name"], partial))
    write_text(folder / "pareto.html", page(outcome))
