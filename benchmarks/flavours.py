"""Runs recipes for several seeds and compares them: the clean flavour with the released code's, or the regularisation claim.

flavours: recipes/dynabert_glue.toml against recipes/dynabert_glue_reference.toml, on the same weights, data, epochs and
learning rates.
regularisation: the full-size sub-network of recipes/dynabert_glue.toml against the plain model fine-tuned alone for as many
optimizer steps as the teacher and both stages together; "plain" also holds the sub-networks merely sliced from that model.

Stopped, the same command goes on with the run that was interrupted; finished runs are not made again.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from slimformer.reports.comparison import Comparison, comparison_tables, plot_comparison
from slimformer.runs.compare import compare
from slimformer.runs.folder import RunFolder
from slimformer.runs.outcome import read_results

RECIPES = Path(__file__).parents[1] / "recipes"


@dataclass(frozen=True)
class Variant:
    """One recipe with its overrides; it is run for every seed."""

    name: str
    recipe: str
    overrides: tuple[str, ...] = ()


@dataclass(frozen=True)
class Claim:
    """Two numbers of which the first should be at least the second, as far as float means can tell."""

    what: str
    found: float
    least: float

    def __str__(self) -> str:
        verdict = "met" if self.found >= self.least - 1e-9 else "NOT MET"
        return f"{self.what}: {self.found:.2f}, at least {self.least:.2f}: {verdict}"


def variants(arguments: argparse.Namespace) -> tuple[Variant, ...]:
    """What is compared, the variant that the others are set against first."""
    clean = Variant("clean", "dynabert_glue.toml", training(arguments, stages=True))
    if arguments.experiment == "flavours":
        return (Variant("reference", "dynabert_glue_reference.toml", training(arguments, stages=True)), clean)
    alone = ("stage=[]", "rewiring=keep", "importance.scorer=magnitude", "evaluation.snapshots=[]")
    return (Variant("plain", "dynabert_glue.toml", (*training(arguments, stages=False), *alone)), clean)


def training(arguments: argparse.Namespace, stages: bool) -> tuple[str, ...]:
    """The overrides of how long and how fast is trained: in three steps, or in one as long as the three together."""
    first, width, depth = arguments.epochs
    rate = arguments.learning_rate
    if not stages:
        return (f"finetune.epochs={first + width + depth}", f"finetune.learning_rate={rate}")
    lines = [f"finetune.epochs={first}", f"finetune.learning_rate={rate}"]
    for stage, epochs in (("width", width), ("depth", depth)):
        lines += [f"stage.{stage}.training.epochs={epochs}", f"stage.{stage}.training.learning_rate={rate}"]
    return tuple(lines)


def common(arguments: argparse.Namespace) -> list[str]:
    """The overrides that all runs share: weights, data, precision, and what the user asked for."""
    lines = [
        f"task.subset={arguments.subset}", f"task.max_train={arguments.max_train}", f"task.max_eval={arguments.max_eval}",
        f"machine.precision={arguments.precision}",
    ]  # fmt: skip
    lines += [f"task.path={arguments.path}"] if arguments.path else []
    lines += [f"model.checkpoint={arguments.checkpoint}"] if arguments.checkpoint else []
    return lines + arguments.overrides


def run(variant: Variant, seed: int, arguments: argparse.Namespace) -> RunFolder:
    """Make one run, or what is left of it, by the command; its progress goes to the terminal."""
    folder = arguments.out / f"{variant.name}-{seed}"
    overrides = [f"name={variant.name}", f"seed={seed}", *variant.overrides, *common(arguments)]
    options = [part for override in overrides for part in ("--set", override)]
    command = [sys.executable, "-m", "slimformer", "run", str(RECIPES / variant.recipe), "--out", str(folder), *options]
    done = subprocess.run(command, stdout=subprocess.DEVNULL, check=False)
    if done.returncode:
        sys.exit(done.returncode)
    return RunFolder(folder)


def claims(found: Comparison, runs: Mapping[str, Sequence[RunFolder]]) -> list[Claim]:
    """What the experiment is to show, on means over the seeds."""
    old, new = found.groups
    results = [read_results(folder) for folder in runs["clean"]]
    full = [result.value(result.rows[0]) for result in results]
    teachers = [result.teacher_metric for result in results]
    spread = statistics.stdev(teachers) if len(teachers) > 1 else 0.0
    if "plain" in runs:
        whole = found.points[0]
        plain = old.points[whole].mean
        return [
            Claim("full-size sub-network against the plain model trained for as many steps", statistics.fmean(full), plain),
            Claim("full-size sub-network against its teacher", statistics.fmean(full), statistics.fmean(teachers)),
        ]
    return [
        Claim("mean of all sub-networks, clean against reference", new.mean.mean, old.mean.mean),
        Claim("worst sub-network, clean against reference", new.worst.mean, old.worst.mean),
        Claim(
            "full-size sub-network against its teacher less one standard deviation",
            statistics.fmean(full),
            statistics.fmean(teachers) - spread,
        ),
    ]


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("experiment", choices=("flavours", "regularisation"))
    options.add_argument("--subset", default="mrpc", help="a subset of GLUE")
    options.add_argument("--path", default="", help="a local folder of GLUE files; the hub's copy without it")
    options.add_argument("--checkpoint", default="", help="a hub name or a folder; the recipe's without it")
    options.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    options.add_argument("--epochs", type=float, nargs=3, default=[3, 3, 3], metavar=("TEACHER", "WIDTH", "DEPTH"))
    options.add_argument("--learning-rate", type=float, default=2e-5)
    options.add_argument("--max-train", type=int, default=0, help="a random part of the training data, the same for all runs")
    options.add_argument("--max-eval", type=int, default=0, help="a random part of the dev set, the same for all runs")
    options.add_argument("--precision", default="auto", help="of all runs: auto, fp32, bf16, fp16")
    options.add_argument("--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE", help="for all runs")
    options.add_argument("--out", type=Path, default=Path("runs/flavours"), help="the folder of the run folders")
    options.add_argument("--plot", type=Path, help="a PNG file to draw the comparison in")
    options.add_argument("--json", type=Path, help="a file for the comparison and the claims")
    arguments = options.parse_args()
    chosen = variants(arguments)
    runs: dict[str, list[RunFolder]] = {variant.name: [] for variant in chosen}
    for seed in arguments.seeds:
        for variant in chosen:
            runs[variant.name].append(run(variant, seed, arguments))
    found = compare([folder for folders in runs.values() for folder in folders])
    console, said = Console(width=160), claims(found, runs)
    for line in (*comparison_tables(found), *map(str, said)):
        console.print(line, highlight=False)
    if arguments.plot:
        plot_comparison(found, arguments.plot)
    if arguments.json:
        arguments.json.write_text(json.dumps(found.to_json() | {"claims": [vars(claim) for claim in said]}, indent=1) + "\n")


if __name__ == "__main__":
    main()
