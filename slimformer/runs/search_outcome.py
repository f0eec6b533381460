"""The outcome of a search: what is judged, stated and written at its end."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace

from slimformer.costs.base import unit_of
from slimformer.files import write_text, write_whole, writing
from slimformer.reports.search import page, plot_front, plot_layers
from slimformer.reports.search_results import FoundSubnet, SearchResults
from slimformer.runs.folder import RunFolder
from slimformer.runs.probe import Probe
from slimformer.search import Candidate, Problem
from slimformer.search.milp import certificate
from slimformer.supernet.names import SubnetNames
from slimformer.supernet.topology import Topology

SOLVERS = ("auto", "milp")
"""The strategies whose outcome states the optimality gap."""


def outcome_of(probe: Probe, problem: Problem, found: Sequence[Candidate], names: SubnetNames) -> SearchResults:
    """State a search: every candidate, and the winner beside the best uniform sub-network on the reporting split."""
    options, results = probe.options, probe.results
    rows = tuple(FoundSubnet(names.of(c.spec), c.rating, dict(c.costs), c.spec) for c in found)
    uniform = next((row for row in rows if row.spec in names.points), None)
    return SearchResults(
        name=probe.recipe.name,
        metric=results.metric,
        measure=probe.measure,
        split=results.split,
        rating=f"{probe.rating_name} on {probe.name.removeprefix('probe:')}",
        limits=tuple(str(limit) for limit in problem.limits),
        minimise=options.cheapest.cost if options.cheapest else "",
        strategy=options.strategy,
        choices=problem.choices.count(),
        costs={name: unit_of(name) for name in rows[0].costs},
        workload=options.workload or probe.recipe.evaluation.workload,
        candidates=rows,
        best=replace(rows[0], metrics=probe.reported(rows[0].spec)),
        uniform=replace(uniform, metrics=probe.reported(uniform.spec)) if uniform else None,
        spec_file=str(probe.folder.search / "winner.json"),
        solver=_solver(problem, found) if options.strategy in SOLVERS else None,
    )


def _solver(problem: Problem, found: Sequence[Candidate]) -> dict[str, object]:
    """The statement of the exact solver at the end, its values refitted to all ratings; empty where it has none."""
    solution = certificate(problem, found)
    if solution is None:
        return {}
    stated: dict[str, object] = {"gap": solution.gap, "seconds": solution.seconds, "additive value": solution.value}
    return stated | {"spec": solution.spec.to_json(), "rated": any(c.spec == solution.spec for c in found)}


def write_winner(folder: RunFolder, found: Candidate) -> None:
    """Write the winner's spec, by which other commands find it."""
    with writing(folder.path):
        folder.search.mkdir(exist_ok=True)
        write_text(folder.search / "winner.json", json.dumps(found.spec.to_json(), indent=2))


def write_outcome(folder: RunFolder, outcome: SearchResults, topology: Topology) -> None:
    """Write search.json, pareto.png, pareto.html and winner.png."""
    document, best = outcome.to_json(), outcome.best
    with writing(folder.path):
        write_text(folder.path / "search.json", json.dumps(document, indent=2))
        write_whole(folder.search / "pareto.png", lambda partial: plot_front(document, partial))
        write_whole(folder.search / "winner.png", lambda partial: plot_layers(topology, best.spec, best.name, partial))
        write_text(folder.search / "pareto.html", page(document))
