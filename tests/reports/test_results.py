"""The outcome as text and pictures, whatever costs there are."""

from __future__ import annotations

from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any, ClassVar

import pytest
from rich.console import Console

from slimformer.costs import COSTS, stated_unit
from slimformer.errors import WorkloadError
from slimformer.recipe import parse_recipe
from slimformer.reports.results import distinct_costs, model_card, plot, results_table
from slimformer.reports.run_results import RunResults
from slimformer.runs.preflight import check_lengths, recipe_pricers
from tests.tiny import tiny_data

UNITS = {"params": "parameters", "flops": "FLOPs", "macs": "MACs", "latency": "seconds, measured with 1 thread"}


@pytest.fixture
def results() -> RunResults:
    """Two sub-networks with four costs."""
    rows = [
        {
            "name": name,
            "ratios": {"width": width},
            "costs": {"params": 100 + 50 * width, "flops": 2e9 * width, "macs": 1e9 * width, "latency": 0.0105 * width + 0.002},
            "metrics": {"validation": {"accuracy": 90.0 * width}},
            "snapshots": {"base": 50.0, "width": 90.0 * width},
        }
        for name, width in (("width1", 1.0), ("width0.5", 0.5))
    ]
    return RunResults.from_json({
        "name": "run", "metric": "accuracy", "split": "validation", "teacher": {"validation": {"accuracy": 91.0}},
        "baselines": {}, "costs": UNITS, "workload": {"batch_size": 1, "length": 128}, "rows": rows,
    })  # fmt: skip


def test_a_cost_is_written_in_its_unit_with_the_setting_in_which_it_was_measured(results):
    console = Console(width=200, record=True, file=StringIO())
    console.print(results_table(results))
    for text in (console.export_text(), model_card(results)):
        assert "12.5ms" in text
        assert "7.25ms" in text
        assert "seconds, measured with 1 thread" in text
        assert "batch 1, length 128" in text


def test_every_cost_has_a_panel_but_a_multiple_of_another(results, tmp_path, monkeypatch):
    from matplotlib.figure import Figure

    drawn: list[Figure] = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, *_, **__: (figure.draw_without_rendering(), drawn.append(figure)))
    plot(results, tmp_path / "pareto.png")
    assert distinct_costs(results) == ["params", "flops", "latency"]
    titles = [panel.get_xlabel() for panel in drawn[0].axes]
    assert titles[2] == "seconds, measured with 1 thread, batch 1, length 128"
    assert all(label.get_text().endswith("ms") for label in drawn[0].axes[2].get_xticklabels())


@dataclass(frozen=True)
class Stopwatch:
    """A measured cost that notes where it may keep what it found."""

    folder: str = ""
    unit: ClassVar[str] = "seconds"
    is_measured: ClassVar[bool] = True

    def price(self, supernet: Any, backbone: Any, workload: Any) -> Any:
        Path(self.folder, "measured.json").write_text("{}")
        return lambda spec: 0.001 * len(spec.units)


def test_a_measured_cost_is_left_out_of_checks_and_keeps_its_measurement_in_the_run(supernet, tmp_path, monkeypatch):
    monkeypatch.setitem(COSTS._classes, "stopwatch", Stopwatch)
    recipe = parse_recipe({
        "name": "x", "model": {"checkpoint": "x"}, "task": "docstrings", "space": {"width": [1.0]},
        "evaluation": {"costs": ["params", "stopwatch"], "workload": {"length": 8}},
    })  # fmt: skip
    assert set(recipe_pricers(supernet, recipe, measured=None)) == {"params"}
    assert recipe_pricers(supernet, recipe, tmp_path)["stopwatch"](supernet.topology.full) == 0.008
    assert (tmp_path / "measured.json").is_file()
    assert stated_unit("stopwatch") == "seconds, measured with 1 thread"
    assert stated_unit("params") == "parameters"


def test_an_example_longer_than_the_model_takes_is_refused_before_training(supernet):
    data = tiny_data()
    check_lengths(supernet, data)
    data.evaluation["validation"][-1]["input_ids"] = [2] * 41
    with pytest.raises(WorkloadError, match=r"takes at most 40 tokens, not 41: lower task\.max_length"):
        check_lengths(supernet, data)


@pytest.mark.parametrize("name", ["---\ntags: x", "a|b", "<script>", "[/x]", "\x1b[31m"])
def test_hostile_names_break_neither_the_model_card_nor_the_table(results, name):
    document = results.to_json()
    document["name"] = document["rows"][0]["name"] = name
    hostile = RunResults.from_json(document)
    before, card = model_card(results).splitlines(), model_card(hostile)
    assert card.splitlines()[:4] == before[:4]
    assert len(card.splitlines()) == len(before)
    assert "<script>" not in card
    assert "\x1b" not in card
    console = Console(width=200, record=True, file=StringIO())
    console.print(results_table(hostile))
    assert "\x1b" not in console.export_text()
