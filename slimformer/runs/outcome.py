"""Write the outcome of a run."""

from __future__ import annotations

import json

from slimformer.files import write_text, write_whole, writing
from slimformer.reports.results import (
    Results,
    model_card,
    plot,
    to_csv,
)
from slimformer.runs.folder import RunFolder


def write_results(folder: RunFolder, results: Results) -> None:
    """Write all files of the outcome."""
    with writing(folder.path):
        write_text(folder.path / "results.csv", to_csv(results))
        write_whole(folder.path / "pareto.png", lambda partial: plot(results, partial))
        write_text(folder.path / "README.md", model_card(results))
        write_text(folder.results, json.dumps(results, indent=2))
