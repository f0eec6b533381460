"""Runs side by side: grouping by seed, differences from the first group, and the training cost."""

from __future__ import annotations

import json
import statistics

import pytest

from slimformer.errors import RunError
from slimformer.recipe import parse_recipe, write_recipe
from slimformer.reports.comparison import plot_comparison
from slimformer.runs.compare import compare
from slimformer.runs.folder import RunFolder

POINTS = [
    ("width1-depth1", 1.0, 1.0),
    ("width0.5-depth1", 0.5, 1.0),
    ("width1-depth0.5", 1.0, 0.5),
    ("width0.5-depth0.5", 0.5, 0.5),
]
DISTIL = [{"name": "soft_cross_entropy"}]


def recipe_of(seed=0, name="a", **changes):
    stages = [
        {"name": "width", "axes": ["width"], "terms": DISTIL, "training": {"epochs": 2}},
        {"name": "depth", "axes": ["width", "depth"], "teacher": "width", "follow": ["width"], "terms": DISTIL,
         "training": {"max_steps": 5}},
    ]  # fmt: skip
    return parse_recipe(
        {
            "name": name,
            "seed": seed,
            "model": {"checkpoint": "x"},
            "task": {"name": "glue"},
            "space": {"width": [1.0, 0.5], "depth": [1.0, 0.5]},
            "stage": stages,
            "machine": {"batch_size": 10},
        }
        | changes
    )


@pytest.fixture
def finished(tmp_path):
    """Writes the folder of a finished run."""

    def finished(folder, recipe, values=(90, 80, 70, 60), metric="accuracy", **more):
        path = tmp_path / folder
        path.mkdir()
        write_recipe(recipe, path / "recipe.toml")
        rows = [
            {"name": n, "ratios": {"width": w, "depth": d}, "costs": {"flops": 8.0 * w * d}, "metrics": {"dev": {metric: v}}}
            for (n, w, d), v in zip(POINTS, values, strict=True)
        ]
        results = {
            "metric": metric,
            "split": "dev",
            "teacher": {"dev": {metric: 91.0}},
            "costs": {"flops": "FLOPs"},
            "rows": rows,
        } | more
        (path / "results.json").write_text(json.dumps(results))
        lines = [("finetune", 10, 0.5), ("finetune", 50, 2.5), ("width", 30, 1.5), ("depth", 4, 0.2)]
        (path / "metrics.jsonl").write_text(
            "".join(json.dumps({"stage": s, "step": n, "epoch": e, "loss": 1.0}) + "\n" for s, n, e in lines)
        )
        return RunFolder(path)

    return finished


def test_runs_that_differ_in_the_seed_alone_are_one_group_with_mean_and_spread(finished):
    one = finished("a0", recipe_of(0), (90, 80, 70, 60))
    two = finished("a1", recipe_of(1), (92, 80, 74, 64))
    other = finished("b0", recipe_of(0, "b", rewiring="keep"), (91, 70, 70, 50))
    first, second = compare([one, two, other]).to_json()["groups"]
    assert (first["seeds"], second["seeds"]) == ([0, 1], [0])
    assert first["points"]["width1-depth1"] == {"mean": 91, "spread": pytest.approx(statistics.stdev([90, 92]))}
    assert (first["mean"]["mean"], first["worst"]["mean"]) == (76.25, 62)
    assert second["difference"] == dict(zip(first["points"], (0, -10, -2, -12), strict=True))
    assert second["worst"] == {"mean": 50, "spread": 0}


def test_the_worst_is_the_highest_where_less_is_better(finished):
    measures = {"perplexity": {"unit": "per token", "lower_is_better": True}}
    run = finished("a", recipe_of(), (20, 30, 25, 50), "perplexity", measures=measures)
    found = compare([run]).to_json()
    assert found["groups"][0]["worst"]["mean"] == 50
    assert found["measures"] == measures


def test_the_same_seed_twice_is_not_a_repetition(finished):
    assert len(compare([finished("a", recipe_of()), finished("b", recipe_of(), (1, 2, 3, 4))]).groups) == 2


def test_the_cost_counts_every_sub_network_by_its_flops_and_a_teachers_pass_as_a_third(finished):
    (group,) = compare([finished("a", recipe_of())]).to_json()["groups"]
    finetune = 60 * 10 * 1.0  # 3 epochs of 20 steps
    width = 40 * 10 * (1 + 0.5 + 1 / 3)  # 2 epochs
    depth = 5 * 10 * (1 + 0.5 + 0.5 + 0.25 + (1 + 0.5) / 3)  # max_steps; a teacher of each width
    assert group["passes"]["mean"] == pytest.approx(finetune + width + depth)


def test_labels_need_no_teacher_and_a_sandwich_runs_fewer(finished):
    stage = {"name": "depth", "axes": ["width", "depth"], "terms": ["labels"], "training": {"max_steps": 5}}
    sandwich = stage | {"sampler": {"name": "sandwich", "num_random": 1}}
    every = finished("every", recipe_of(stage=[stage], finetune={"epochs": 0}))
    some = finished("some", recipe_of(stage=[sandwich], finetune={"epochs": 0}))
    costs = [group["passes"]["mean"] for group in compare([every, some]).to_json()["groups"]]
    assert costs == pytest.approx([50 * 2.25, 50 * (1 + 2.25 / 4 + 0.25)])


def test_runs_of_other_tasks_spaces_or_that_are_not_finished_are_refused(finished, tmp_path):
    one = finished("a", recipe_of())
    with pytest.raises(RunError, match="compare runs of one task"):
        compare([one, finished("b", recipe_of(1), metric="f1")])
    other = finished("c", recipe_of(1))
    results = json.loads(other.results.read_text())
    other.results.write_text(json.dumps(results | {"rows": results["rows"][:2]}))
    with pytest.raises(RunError, match=r"compare runs of one \[space\]"):
        compare([one, other])
    with pytest.raises(RunError, match="holds no run"):
        compare([one, RunFolder(tmp_path / "none")])


def test_the_comparison_is_drawn(finished, tmp_path):
    found = compare([finished("a", recipe_of()), finished("b", recipe_of(rewiring="keep"), (91, 70, 70, 50))])
    plot_comparison(found, tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")
