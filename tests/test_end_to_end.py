"""One real tiny run through the command line, and everything that one can do with it afterwards."""

import csv
import io
import json
import os
import shutil
import subprocess
import sys
import time
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from slimformer.cli import main
from slimformer.runs import probe as search_probe

ROOT = Path(__file__).parents[1]
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "COLUMNS": "160"}
STOPPED = """
import os, signal, sys
from slimformer.cli import app as cli
from slimformer.runs import metrics_log
stage, sys.argv, append_line = sys.argv[1], ["slimformer", *sys.argv[2:]], metrics_log.append_line
def append_and_stop(path, row):
    append_line(path, row)
    if (row["stage"], row["step"]) == (stage, 2):
        os.kill(os.getpid(), signal.SIGINT)
metrics_log.append_line = append_and_stop
cli.main()
"""
"""The command, with a Ctrl-C when the second step of a stage is logged."""


def slimformer(*arguments: object, cwd: Path, rc: int = 0) -> subprocess.CompletedProcess[str]:
    """Run the command in this process, which has imported torch; another exit code than `rc`, or any exception, fails."""
    stdout, stderr, code = io.StringIO(), io.StringIO(), 0
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(stdout), redirect_stderr(stderr):
        patch.chdir(cwd)
        patch.setattr(sys, "argv", ["slimformer", *map(str, arguments)])
        try:
            main()
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else 0
    done = subprocess.CompletedProcess(arguments, code, stdout.getvalue(), stderr.getvalue())
    assert code == rc, f"{code}\n{done.stdout}\n{done.stderr}"
    return done


def in_a_process(*command: object, cwd: Path, rc: int = 0) -> subprocess.CompletedProcess[str]:
    """Run Python in a process of its own; another exit code than `rc`, or a traceback, fails."""
    line = [sys.executable, *map(str, command)]
    done = subprocess.run(line, cwd=cwd, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert done.returncode == rc, f"{done.returncode}\n{done.stdout}\n{done.stderr}"
    assert "Traceback" not in done.stderr
    return done


def one_line(done: subprocess.CompletedProcess[str]) -> str:
    """The error of a command that failed: exactly one line."""
    lines = [line for line in done.stderr.splitlines() if line.startswith("slimformer: ")]
    assert len(lines) == 1, done.stderr
    assert done.stderr.rstrip().endswith(lines[0]), done.stderr
    return lines[0]


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory, checkpoint: str) -> Path:
    """A folder with a recipe, a model and data: does the sentence say "good"?"""
    folder = tmp_path_factory.mktemp("project")
    draw = np.random.default_rng(0)
    words = ["a", "bad", "cat", "dog", "good", "film", "is", "the"]
    for name, size in (("train", 96), ("dev", 40)):
        with (folder / f"{name}.csv").open("w", newline="") as stream:
            rows = csv.writer(stream)
            rows.writerow(["text", "label"])
            for _ in range(size):
                sentence = draw.choice(words, size=draw.integers(3, 7))
                rows.writerow([" ".join(sentence), "yes" if "good" in sentence else "no"])
    (folder / "recipe.toml").write_text(f"""
name = "tiny"
[model]
checkpoint = {json.dumps(checkpoint)}
[task]
name = "text_files"
train = "train.csv"
validation = "dev.csv"
baselines = true
[space]
width = [1.0, 0.5, 0.25]
depth = [1.0, 0.5]
[finetune]
epochs = 2
learning_rate = 3e-3
[[stage]]
name = "width"
axes = ["width"]
terms = [{{ name = "soft_cross_entropy" }}, {{ name = "hidden_mse", weight = 0.1 }}]
training = {{ epochs = 1, learning_rate = 1e-3 }}
[[stage]]
name = "depth"
axes = ["width", "depth"]
teacher = "width"
follow = ["width"]
terms = [{{ name = "soft_cross_entropy" }}, {{ name = "hidden_mse" }}]
training = {{ epochs = 2, learning_rate = 1e-3 }}
[machine]
batch_size = 16
precision = "fp32"
log_steps = 1
[evaluation]
snapshots = ["base", "rewired", "width"]
workload = {{ batch_size = 1, length = 16 }}
""")
    return folder


@pytest.fixture(scope="session")
def results(place: Path) -> dict:
    return json.loads(slimformer("run", "recipe.toml", "--json", cwd=place).stdout)


@pytest.fixture
def damaged(place: Path, results: dict, tmp_path: Path) -> Path:
    """A copy of the run that a test may damage."""
    shutil.copytree(place / "runs" / "tiny", tmp_path / "damaged")
    return tmp_path / "damaged"


def test_a_run_leaves_the_files_that_it_promises(place, results):
    run = place / "runs" / "tiny"
    promised = (
        "recipe.toml", "environment.json", "base/model.safetensors", "scores.safetensors", "rewiring.json",
        "stages/width/model/model.safetensors", "supernet/model.safetensors", "supernet/rewiring.json",
        "metrics.jsonl", "tensorboard", "ratings.jsonl", "results.json", "results.csv", "pareto.png", "README.md", "done.json",
    )  # fmt: skip
    assert [name for name in promised if not (run / name).exists()] == []
    assert not list(run.rglob("checkpoint-*"))
    assert not list(run.rglob("*.partial"))
    assert results == json.loads((run / "results.json").read_text()) | {"run": "runs/tiny"}


def test_the_table_has_every_sub_network_with_costs_that_shrink(results):
    assert len(results["rows"]) == 6
    params = [row["costs"]["params"] for row in results["rows"]]
    assert params[0] == max(params)
    assert params[-1] == min(params)
    assert all(row["costs"]["flops"] == 2 * row["costs"]["macs"] for row in results["rows"])
    assert list(results["rows"][0]["snapshots"]) == ["base", "rewired", "width", "depth"]
    assert set(results["baselines"]) == {"most frequent class", "bag of words"}


def test_rewiring_leaves_the_full_size_network_as_good_as_its_teacher(results):
    full = results["rows"][0]["snapshots"]
    assert full["base"] == full["rewired"] == results["teacher"]["validation"]["accuracy"]


def test_the_csv_says_the_same_as_the_json(place, results):
    rows = list(csv.DictReader((place / "runs" / "tiny" / "results.csv").open()))
    assert [row["name"] for row in rows] == [row["name"] for row in results["rows"]]
    assert [float(row["validation/accuracy"]) for row in rows] == [
        row["metrics"]["validation"]["accuracy"] for row in results["rows"]
    ]


def test_the_same_command_again_does_nothing_and_says_the_same(place, results):
    run = place / "runs" / "tiny"
    before = {file: file.stat().st_mtime_ns for file in run.rglob("*")}
    began = time.monotonic()
    again = slimformer("run", "recipe.toml", "--json", cwd=place)
    assert time.monotonic() - began < 5
    assert json.loads(again.stdout) == results
    assert "is finished" in again.stderr
    assert {file: file.stat().st_mtime_ns for file in run.rglob("*")} == before


def test_another_recipe_gets_a_folder_of_its_own_and_a_given_folder_is_kept(place, results, tmp_path):
    plan = json.loads(slimformer("run", "recipe.toml", "--dry-run", "--json", "--set", "seed=7", cwd=place).stdout)
    assert plan["run folder"] == "runs/tiny-2"
    assert plan["sub-networks"] == 6
    assert not (place / "runs" / "tiny-2").exists()
    refused = slimformer("run", "recipe.toml", "--set", "seed=7", "--out", "runs/tiny", cwd=place, rc=2)
    assert "seed: 42 -> 7" in one_line(refused)


def test_a_run_interrupted_in_two_stages_goes_on_to_the_same_bits(place, results, tmp_path):
    out = tmp_path / "interrupted"
    for stage in ("finetune", "depth"):
        stopped = in_a_process("-c", STOPPED, stage, "run", "recipe.toml", "--out", out, "--json", cwd=place, rc=130)
        assert f"stopped in stage '{stage}' at step 3; a checkpoint is in {out}" in one_line(stopped)
        assert stopped.stdout == ""
        assert (out / "stages" / stage / "checkpoints" / "checkpoint-3" / "model.safetensors").is_file()
    assert "is not finished" in one_line(slimformer("search", "--run", out, cwd=place, rc=2))
    again = json.loads(slimformer("run", "recipe.toml", "--out", out, "--json", cwd=place).stdout)
    assert again == results | {"run": str(out)}
    run = place / "runs" / "tiny"
    for name in (
        "metrics.jsonl",
        "ratings.jsonl",
        "results.json",
        "results.csv",
        "rewiring.json",
        "scores.safetensors",
        "README.md",
    ):
        assert (out / name).read_bytes() == (run / name).read_bytes(), name
    for name in ("base", "stages/width/model", "stages/depth/model", "supernet"):
        one, other = (load_file(folder / name / "model.safetensors") for folder in (out, run))
        assert all(torch.equal(one[key], other[key]) for key in other), name


QUICK = ("--max-ratings", 10, "--quiet")


def test_search_finds_a_sub_network_at_least_as_good_as_every_uniform_one_under_the_limit(place, results):
    flops = sorted(row["costs"]["flops"] for row in results["rows"])
    found = json.loads(slimformer("search", "--max-flops", int(flops[3]), *QUICK, "--json", cwd=place).stdout)
    fitting = {row["name"] for row in results["rows"] if row["costs"]["flops"] <= flops[3]}
    assert fitting <= {c["name"] for c in found["candidates"]}
    assert all(c["costs"]["flops"] <= flops[3] for c in found["candidates"])
    assert len(found["candidates"]) == 10
    assert found["winner"]["rating"] >= found["uniform"]["rating"]
    assert found["rating"] == "-loss on 9 of calibration"
    assert set(found["winner"]["metrics"]) == {"accuracy", "f1_macro"} or "accuracy" in found["winner"]["metrics"]


def test_the_winner_of_a_search_is_scored_and_exported_by_the_commands_that_it_prints(place, results, tmp_path):
    flops = int(results["rows"][1]["costs"]["flops"])
    shown = slimformer("search", "--max-flops", flops, *QUICK, cwd=place).stdout
    found = json.loads((place / "runs" / "tiny" / "search.json").read_text())
    assert "cut it out: slimformer export --run runs/tiny --subnet runs/tiny/search/winner.json --to FOLDER" in shown
    scored = json.loads(slimformer("evaluate", "--subnet", found["spec_file"], "--json", cwd=place).stdout)
    assert scored["metrics"] == found["winner"]["metrics"]
    cut = json.loads(slimformer("export", "--subnet", found["spec_file"], "--to", tmp_path / "x", "--json", cwd=place).stdout)
    assert cut["spec"] == found["winner"]["spec"]
    for name in ("pareto.png", "pareto.html", "winner.png"):
        assert (place / "runs" / "tiny" / "search" / name).stat().st_size > 2000


def test_the_same_search_again_rates_nothing(place, results):
    flops = int(results["rows"][1]["costs"]["flops"])
    first = json.loads(slimformer("search", "--max-flops", flops, *QUICK, "--json", cwd=place).stdout)
    lines = (place / "runs" / "tiny" / "ratings.jsonl").read_text()
    again = json.loads(slimformer("search", "--max-flops", flops, *QUICK, "--json", cwd=place).stdout)
    assert (place / "runs" / "tiny" / "ratings.jsonl").read_text() == lines
    first["solver"]["seconds"] = again["solver"]["seconds"]
    assert again == first


def test_search_takes_several_limits_on_any_cost(place, results):
    least = results["rows"][-1]["costs"]
    limits = ("--max-params", least["params"], "--max", f"macs={int(least['macs'])}")
    found = json.loads(slimformer("search", *limits, *QUICK, "--json", cwd=place).stdout)
    assert all(c["costs"]["params"] <= least["params"] and c["costs"]["macs"] <= least["macs"] for c in found["candidates"])
    assert "width0.25-depth0.5" in {c["name"] for c in found["candidates"]}


def test_search_like_a_point_costs_at_most_what_it_costs(place, results):
    row = next(row for row in results["rows"] if row["name"] == "width0.5-depth1")
    for like in ("w0.5", "runs/tiny:width0.5-depth1"):
        found = json.loads(slimformer("search", "--like", like, *QUICK, "--json", cwd=place).stdout)
        assert all(c["costs"][cost] <= row["costs"][cost] for c in found["candidates"] for cost in row["costs"])
        assert "width0.5-depth1" in {c["name"] for c in found["candidates"]}


def test_search_takes_limits_on_measured_latency_and_on_memory_in_their_units(place, results):
    limits = (
        "--max-latency",
        "2000ms",
        "--max-memory",
        "90KB",
        "--set",
        "latency.seconds=0.05",
        "--set",
        "memory.dtype=bfloat16",
    )
    found = json.loads(slimformer("search", *limits, *QUICK, "--json", cwd=place).stdout)
    assert found["limits"] == ["latency <= 2s", "memory <= 90KB"]
    assert all(0 < c["costs"]["latency"] <= 2 and c["costs"]["memory"] <= 90_000 for c in found["candidates"])
    kept = list((place / "runs" / "tiny" / "measured").iterdir())
    assert [file.name[:8] for file in kept] == ["latency-"]
    assert json.loads(kept[0].read_text())["setting"]["length"] == 16
    shown = slimformer("search", *limits, *QUICK, cwd=place).stdout
    assert "ms" in shown
    assert "KB" in shown
    assert list((place / "runs" / "tiny" / "measured").iterdir()) == kept


def test_a_search_that_is_stopped_keeps_its_ratings_and_goes_on(damaged, place, results, monkeypatch):
    rated, measure = [], search_probe.measure

    def stop_at_the_third(supernet, spec, *rest):
        if len(rated) == 2:
            raise KeyboardInterrupt
        rated.append(spec)
        return measure(supernet, spec, *rest)

    before = (damaged / "ratings.jsonl").read_text()
    monkeypatch.setattr(search_probe, "measure", stop_at_the_third)
    params = results["rows"][1]["costs"]["params"]  # a limit with room below it: without one the whole model is the answer
    arguments = ("search", "--run", damaged, "--max-params", int(params), "--probe", 5, *QUICK)
    assert "nothing finished is lost" in one_line(slimformer(*arguments, cwd=place, rc=130))
    kept = (damaged / "ratings.jsonl").read_text().removeprefix(before).splitlines()
    assert [json.loads(line)["split"] for line in kept] == ["probe:5 of calibration"] * 2
    again = []
    monkeypatch.setattr(search_probe, "measure", lambda net, spec, *rest: again.append(spec) or measure(net, spec, *rest))
    slimformer(*arguments, cwd=place)
    assert len(again) == 8
    assert not set(again) & set(rated)


def test_an_empty_probe_is_one_line(damaged, place):
    recipe = damaged / "recipe.toml"
    lines = [
        "calibration_size = 0" if line.startswith("calibration_size") else line for line in recipe.read_text().splitlines()
    ]
    recipe.write_text("\n".join(lines))
    said = one_line(slimformer("search", "--run", damaged, "--max-params", "1M", cwd=place, rc=2))
    assert "the calibration split is empty, so nothing can be rated: give the task a larger calibration_size" in said


def test_search_for_the_cheapest_keeps_the_metric_and_costs_no_more_than_the_cheapest_uniform_one(place, results):
    goal = ("--min-metric", 5, "--minimise", "params", "--probe", 0)
    found = json.loads(slimformer("search", *goal, *QUICK, "--json", cwd=place).stdout)
    enough = [c for c in found["candidates"] if c["rating"] >= 5]
    assert found["winner"]["costs"]["params"] == min(c["costs"]["params"] for c in enough)


def test_a_metric_that_nothing_reaches_is_one_line_and_exit_code_three(place, results):
    said = one_line(slimformer("search", "--min-metric", 100.5, "--minimise", "params", "--quiet", cwd=place, rc=3))
    assert "none of the rated sub-networks reaches 100.50 %" in said


def test_a_finetuned_winner_is_an_exported_model_and_the_run_is_left_alone(place, results):
    before = load_file(place / "runs" / "tiny" / "supernet" / "model.safetensors")
    flops = int(results["rows"][1]["costs"]["flops"])
    options = ("--finetune", "--finetune-steps", 3)
    found = json.loads(slimformer("search", "--max-flops", flops, *QUICK, *options, "--json", cwd=place).stdout)
    after = load_file(place / "runs" / "tiny" / "supernet" / "model.safetensors")
    assert all(torch.equal(before[key], after[key]) for key in before)
    assert json.loads((place / found["finetuned"]["folder"] / "subnet.json").read_text()) == found["winner"]["spec"]
    assert found["finetuned"]["metrics"]["before"] == found["winner"]["metrics"]
    assert found["finetuned"]["probe"]["after"] != found["finetuned"]["probe"]["before"]


def test_a_limit_that_nothing_meets_names_the_nearest_and_exits_with_three(place, results):
    assert "the nearest, width0.25-depth0.5, has flops" in one_line(slimformer("search", "--max-flops", "10", cwd=place, rc=3))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("search", "--max-flops", "1X"), "1G"),
        (("search", "--max-flops", "20ms"), "k, M, G, T (1G = 1e9)"),
        (("search", "--max-latency", "1G"), "s, ms, us"),
        (("search", "--max-latency", "1s", "--set", "latency.threads=two"), "latency.threads=two"),
        (("search", "--max-latency", "1s", "--set", "latency.device=nowhere"), "write cpu"),
        (("search", "--max", "flops"), "COST=VALUE"),
        (("search", "--max", "flop=1G"), "Did you mean 'flops'"),
        (("search", "--strategy", "gird"), "Did you mean 'grid'"),
        (("search", "--run", "nowhere"), "holds no run"),
        (("search", "--like", "w0.3"), "width0.25-depth0.5"),
        (("search", "--minimise", "flops"), "go together"),
        (("search", "--multiple", "hidden=3"), "width.heads"),
        (("search", "--probe", "4", "--rate-by", "metric"), "--probe 0"),
        (("search", "--storage", "nowhere/x.log"), "nowhere"),
        (("evaluate", "--subnet", "w0.3"), "width0.25-depth0.5"),
        (("evaluate", "--subnet", "missing.json"), "missing.json"),
        (("evaluate", "--split", "test"), "validation"),
        (("export", "--subnet", "nonsense", "--to", "x"), "width1-depth1"),
        (("export", "--to", "recipe.toml"), "--to"),
        (("list", "nonsense"), "tasks"),
        (("inspect", "./nowhere"), "nowhere"),
        (("inspect", "no-such-model-anywhere"), "no-such-model-anywhere"),
        (("run", "nowhere.toml"), "nowhere.toml"),
        (("run", "recipe.toml", "--set", "task.label=lable"), "label"),
        (("run", "recipe.toml", "--set", "task.train=nowhere.csv"), "nowhere.csv"),
        (("run", "recipe.toml", "--set", "model.checkpoint=no-such-model-anywhere"), "model.checkpoint"),
        (("run", "recipe.toml", "--set", "space.hidden=[1,0.5]"), "width"),
        (("run", "recipe.toml", "--set", "space.width=[0]"), "greater than 0"),
        (("run", "recipe.toml", "--set", "importance.split=test"), "calibration"),
        (("run", "recipe.toml", "--set", "evaluation.workload.length=128"), "evaluation.workload.length"),
        (("run", "recipe.toml", "--set", "task={name='glue'}"), "task.path"),
        (
            ("run", "recipe.toml", "--set", "task.pad_to_max_length=true"),
            "takes at most 40 tokens, not 128: lower task.max_length",
        ),
        (("run", "recipe.toml", "--set", "task.max_length=-3"), "greater than or equal to 1"),
        (("run", "recipe.toml", "--set", "evaluation.costs=[]"), "at least 1 item"),
        (("run", "recipe.toml", "--set", 'machine.trackers=["wandbb"]'), "machine.trackers: wandbb is not supported"),
        (("run", "recipe.toml", "--set", "stage.width.terms.0.over=tokens"), 'write over = "classes"'),
        (("compare", "runs/tiny", "--plot", "runs"), "Is a directory"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_wrong_input_is_one_line_that_says_what_to_write(place, results, arguments, said):
    try:
        assert said in one_line(slimformer(*arguments, cwd=place, rc=2))
        assert json.loads(slimformer("evaluate", "--json", cwd=place).stdout)["name"] == "width1-depth1", "not the last run"
    finally:
        for path in (place / "runs").iterdir():
            if path.name != "tiny":
                shutil.rmtree(path)


def test_evaluating_a_sub_network_gives_the_number_in_the_table(place, results):
    found = json.loads(slimformer("evaluate", "--subnet", "w0.5-d0.5", "--json", cwd=place).stdout)
    row = next(row for row in results["rows"] if row["name"] == "width0.5-depth0.5")
    assert found["metrics"] == row["metrics"]["validation"]


def test_an_exported_sub_network_loads_with_transformers_alone_and_scores_the_same(place, results, tmp_path):
    made = json.loads(slimformer("export", "--subnet", "w0.5-d0.5", "--to", tmp_path / "small", "--json", cwd=place).stdout)
    script = (
        "import sys, csv, torch, transformers\n"
        "folder, data = sys.argv[1:]\n"
        "model = transformers.AutoModelForSequenceClassification.from_pretrained(folder, trust_remote_code=True).eval()\n"
        "tokenizer = transformers.AutoTokenizer.from_pretrained(folder)\n"
        "rows = list(csv.DictReader(open(data)))\n"
        "with torch.no_grad(): logits = model(**tokenizer([r['text'] for r in rows], padding=True, return_tensors='pt')).logits\n"
        "names = [model.config.id2label[int(i)] for i in logits.argmax(-1)]\n"
        "assert 'slimformer' not in sys.modules\n"
        "print(100 * sum(n == r['label'] for n, r in zip(names, rows)) / len(rows))\n"
    )
    done = in_a_process("-I", "-c", script, tmp_path / "small", place / "dev.csv", cwd=tmp_path)
    row = next(row for row in results["rows"] if row["name"] == "width0.5-depth0.5")
    assert float(done.stdout) == pytest.approx(row["metrics"]["validation"]["accuracy"])
    assert not made["stock"]


def test_every_number_in_the_table_is_that_of_the_exported_sub_network_rated_by_hand(place, results, tmp_path):
    with (place / "dev.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    for row in results["rows"]:
        made = json.loads(
            slimformer("export", "--subnet", row["name"], "--to", tmp_path / row["name"], "--json", cwd=place).stdout
        )
        assert made["spec"] == row["spec"]
        model = AutoModelForSequenceClassification.from_pretrained(tmp_path / row["name"], trust_remote_code=not made["stock"])
        tokenizer = AutoTokenizer.from_pretrained(tmp_path / row["name"])
        with torch.no_grad():
            guess = model.eval()(**tokenizer([r["text"] for r in rows], padding=True, return_tensors="pt")).logits.argmax(-1)
        right = sum(model.config.id2label[int(i)] == r["label"] for i, r in zip(guess, rows, strict=True))
        assert 100 * right / len(rows) == pytest.approx(row["metrics"]["validation"]["accuracy"])
        assert sum(p.numel() for p in model.parameters()) == row["costs"]["params"]


def test_a_sub_network_that_is_not_in_the_grid_is_exported_and_rated_by_its_spec(place, results, tmp_path):
    spec = json.loads(json.dumps(results["rows"][0]["spec"]))
    group = next(iter(spec["units"]))
    spec["units"][group] = 1
    (tmp_path / "odd.json").write_text(json.dumps({"name": "odd", "spec": spec}))
    made = json.loads(
        slimformer("export", "--subnet", tmp_path / "odd.json", "--to", tmp_path / "odd", "--json", cwd=place).stdout
    )
    assert (made["name"], made["spec"], made["stock"]) == ("odd", spec, False)
    rated = json.loads(slimformer("evaluate", "--subnet", tmp_path / "odd" / "subnet.json", "--json", cwd=place).stdout)
    assert rated["spec"] == spec
    assert 0 <= rated["metrics"]["accuracy"] <= 100


def test_a_grid_point_given_by_its_spec_keeps_its_name(place, results, tmp_path):
    (tmp_path / "spec.json").write_text(json.dumps(results["rows"][4]["spec"]))
    found = json.loads(slimformer("evaluate", "--subnet", tmp_path / "spec.json", "--json", cwd=place).stdout)
    assert found["name"] == results["rows"][4]["name"]


@pytest.mark.parametrize(
    "text", ["[]", "{", '{"units": {}}', '{"units": null, "blocks": {}}', '{"units": {"x": 1}, "blocks": {}}']
)
def test_a_file_without_a_spec_is_one_clear_line(place, results, tmp_path, text):
    (tmp_path / "spec.json").write_text(text)
    one_line(slimformer("evaluate", "--subnet", tmp_path / "spec.json", cwd=place, rc=2))


def test_a_sub_network_is_scored_on_another_split(place, results):
    found = json.loads(slimformer("evaluate", "--split", "train", "--json", cwd=place).stdout)
    assert (found["name"], found["split"]) == ("width1-depth1", "train")


def test_an_export_replaces_an_export_but_nothing_else(place, results, tmp_path):
    for name in ("w0.5-d0.5", "w1-d0.5"):
        slimformer("export", "--subnet", name, "--to", tmp_path / "small", cwd=place)
    assert not (tmp_path / "small" / "modeling_slimformer.py").exists()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("do not touch")
    refused = slimformer("export", "--subnet", "w0.5", "--to", tmp_path / "mine", cwd=place, rc=2)
    assert "is no exported sub-network: give another --to folder" in one_line(refused)
    assert [file.name for file in (tmp_path / "mine").iterdir()] == ["thesis.tex"]


def test_a_person_sees_the_table_the_run_folder_and_the_next_command(place, results):
    shown = slimformer("run", "recipe.toml", cwd=place).stdout
    assert "run folder: runs/tiny" in shown
    assert all(row["name"] in shown for row in results["rows"])
    assert "best: " in slimformer("search", "--max-params", "1M", "--max-ratings", 7, cwd=place).stdout
    assert " %" in slimformer("evaluate", cwd=place).stdout


def test_a_dry_run_writes_nothing_and_says_what_would_be_done(place, tmp_path):
    before = sorted(place.rglob("*"))
    out = tmp_path / "new"
    plan = json.loads(slimformer("run", "recipe.toml", "--dry-run", "--json", "--out", out, cwd=place).stdout)
    assert (plan["train examples"], plan["calibration examples"], plan["evaluation"]) == (87, 9, {"validation": 40})
    assert plan["optimizer steps"] == {"finetune": 12, "width": 6, "depth": 12}
    assert plan["costs"]["width1-depth1"]["params"] > plan["costs"]["width0.25-depth0.5"]["params"]
    assert sorted(place.rglob("*")) == before
    assert not out.exists()


def test_a_run_that_failed_at_its_data_goes_on_when_the_recipe_is_mended(place, tmp_path):
    out = tmp_path / "new"
    short = ["--set", "stage=[]", "--set", "evaluation.snapshots=[]", "--set", "finetune.max_steps=1", "--out", out]
    slimformer("run", "recipe.toml", "--set", "task.label=lable", *short, cwd=place, rc=2)
    mended = json.loads(slimformer("run", "recipe.toml", *short, "--json", cwd=place).stdout)
    assert len(mended["rows"]) == 6


def test_a_run_with_an_elastic_stream_trains_searches_and_exports_it(place, tmp_path):
    overrides = (
        'model.backbones=[{name="bert",hidden=true}]', "space.hidden=[1.0,0.5]", "finetune.max_steps=2",
        'importance.scorer="activation_norm"', 'stage.width.axes=["width","hidden"]', "stage.width.training.max_steps=2",
        'stage.width.terms=[{name="soft_cross_entropy"},{name="hidden_mse",width="first"}]',
        'stage.depth.axes=["width","depth","hidden"]', 'stage.depth.follow=["hidden"]', "stage.depth.training.max_steps=2",
    )  # fmt: skip
    options = [part for text in overrides for part in ("--set", text)]
    run = tmp_path / "run"
    found = json.loads(slimformer("run", "recipe.toml", "--json", "--out", run, *options, cwd=place).stdout)
    assert len(found["rows"]) == 12
    narrow = next(row for row in found["rows"] if row["name"] == "width0.5-depth0.5-hidden0.5")
    best = json.loads(
        slimformer("search", "--run", run, "--max-params", "20k", "--max-ratings", 14, "--json", cwd=place).stdout
    )
    assert best["winner"]["costs"]["params"] <= 20_000
    done = slimformer("export", "--run", run, "--subnet", narrow["name"], "--to", tmp_path / "out", "--json", cwd=place)
    assert json.loads(done.stdout)["stock"] is False
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "out", trust_remote_code=True)
    assert sum(p.numel() for p in model.parameters()) == narrow["costs"]["params"]
    assert model.get_input_embeddings().weight.shape[1] == 16


def test_inspect_shows_axes_and_the_cost_of_the_extremes(checkpoint, place):
    found = json.loads(slimformer("inspect", checkpoint, "--length", 16, "--json", cwd=place).stdout)
    assert [row["axis"] for row in found["axes"]] == ["width.heads", "width.ffn", "depth", "all"]
    assert found["extremes"][0]["costs"]["params"] > found["extremes"][1]["costs"]["params"]


def test_a_truncated_table_is_one_clear_line(damaged, place):
    (damaged / "results.json").write_text('{"rows": [')
    assert "results.json is damaged" in one_line(slimformer("search", "--run", damaged, cwd=place, rc=2))


@pytest.mark.parametrize("damage", [lambda b: None, lambda b: b"", lambda b: b"\x00" * 64, lambda b: b[: len(b) // 2]])
def test_damaged_weights_are_one_clear_line_and_the_same_command_mends_them(damaged, place, results, damage):
    file = damaged / "supernet" / "model.safetensors"
    weights = file.read_bytes()
    content = damage(weights)
    file.unlink() if content is None else file.write_bytes(content)
    said = one_line(slimformer("export", "--run", damaged, "--to", "x", cwd=place, rc=2))
    assert f"{damaged / 'supernet'} is damaged" in said
    assert "remove it and run the same 'slimformer run' command again" in said
    shutil.rmtree(damaged / "supernet")
    assert "is not finished" in one_line(slimformer("search", "--run", damaged, cwd=place, rc=2))
    mended = json.loads(slimformer("run", "recipe.toml", "--out", damaged, "--json", cwd=place).stdout)
    assert mended["rows"] == results["rows"]
    assert file.read_bytes() == weights


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("recipe.toml", 'name = "'),
        ("recipe.toml", "seed = 1"),
        ("done.json", "{"),
        ("ratings.jsonl", "{\n{}\n"),
        ("supernet/config.json", "{"),
        ("supernet/tokenizer.json", "{"),
    ],
)
def test_a_damaged_file_of_a_run_is_never_a_traceback(damaged, place, name, content):
    (damaged / name).write_text(content)
    commands = {"ratings.jsonl": ["search", "evaluate"], "supernet/tokenizer.json": ["export"]}
    for command in commands.get(name, ["search", "evaluate", "export"]):
        to = ("--to", damaged / "x") if command == "export" else ()
        said = slimformer(command, "--run", damaged, *to, cwd=place, rc=2).stderr
        assert str(damaged) in said
        assert all(line.startswith(("slimformer: ", str(damaged), "search: ")) for line in said.splitlines())


WHOLE_TEACHER = ("run", "recipe.toml", "--set", "stage.depth.follow=[]", "--set", "name=whole")


def test_a_variant_begins_with_what_it_shares_with_a_run_and_ends_as_if_it_had_made_all_itself(place, results, tmp_path):
    alone, begun = tmp_path / "alone", tmp_path / "begun"
    plan = json.loads(slimformer(*WHOLE_TEACHER, "--from", "runs/tiny", "--dry-run", "--json", cwd=place).stdout)
    assert plan["taken over"] == ["base", "rewiring", "width"]
    done = slimformer(*WHOLE_TEACHER, "--from", "runs/tiny", "--out", begun, cwd=place)
    assert "taken over from runs/tiny: base, rewiring, width; made anew: what comes after, as stage.depth.follow" in done.stderr
    assert "finetune: from" not in done.stderr
    assert "depth: from 0 of" in done.stderr
    slimformer(*WHOLE_TEACHER, "--out", alone, cwd=place)
    assert json.loads((begun / "results.json").read_text()) == json.loads((alone / "results.json").read_text())
    assert json.loads((begun / "results.json").read_text())["rows"] != results["rows"]
    for name in ("metrics.jsonl", "ratings.jsonl", "rewiring.json", "scores.safetensors", "done.json"):
        assert (begun / name).read_bytes() == (alone / name).read_bytes(), name
    for name in ("base", "stages/width/model", "stages/depth/model", "supernet"):
        one, other = (load_file(folder / name / "model.safetensors") for folder in (begun, alone))
        assert all(torch.equal(one[key], other[key]) for key in other), name
    assert {path.name for path in (begun / "tensorboard").iterdir()} == {"finetune", "width", "depth"}


@pytest.mark.parametrize(
    ("start", "said"),
    [
        ("runs/tiny", "shares no step with this recipe (seed: 42 -> 7): run it without --from"),
        ("runs/nowhere", "holds no run"),
    ],
)
def test_a_run_that_cannot_begin_with_another_says_so_in_one_line(place, results, tmp_path, start, said):
    done = slimformer("run", "recipe.toml", "--set", "seed=7", "--out", tmp_path / "out", "--from", start, cwd=place, rc=2)
    assert said in one_line(done)
