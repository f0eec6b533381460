"""Write the results of a run, and read them back."""

from __future__ import annotations

import json

from slimformer.files import write_text, write_whole, writing
from slimformer.reports.results import model_card, plot, to_csv
from slimformer.reports.run_results import RunResults
from slimformer.runs.folder import RunFolder


def write_results(folder: RunFolder, results: RunResults) -> None:
    """Write results.csv, the picture, the model card, and last results.json, which makes the run a finished one."""
    with writing(folder.path):
        write_text(folder.path / "results.csv", to_csv(results))
        write_whole(folder.path / "pareto.png", lambda partial: plot(results, partial))
        write_text(folder.path / "README.md", model_card(results))
        write_text(folder.results, json.dumps(results.to_json(), indent=2))


def read_results(folder: RunFolder) -> RunResults:
    """The results of a finished run.

    Raises: RunError where the run is not finished or results.json is damaged.
    """
    return RunResults.from_json(folder.read_results())
