"""A step of DynaBERT's second stage: 12 distilled sub-networks against the sum of 12 stand-alone steps and one teacher forward.

The ideal is the sum of the steps of 12 independent models of the same sizes, each with the same loss on a teacher's outputs
that are at hand, and one forward pass of the full-size teacher. Both flavours are held against it: "clean"
(recipes/dynabert_glue.toml), whose teacher runs once at each width, and "reference" (recipes/dynabert_glue_reference.toml),
whose teacher runs once, whole. The released code runs that one pass four times over; "reference as released" adds three.
"""

from __future__ import annotations

import argparse
import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from common import (
    Bar,
    Samples,
    Timing,
    batches,
    bert,
    grid,
    measure,
    parser,
    report,
    shape_of,
    slimmable,
    table,
)
from rich.table import Table
from torch import nn

from slimformer.axes import Point
from slimformer.recipe import Recipe, read_recipe
from slimformer.supernet import Batch, Outputs, SuperNet
from slimformer.supernet.forward import forward
from slimformer.training import ElasticStep

RECIPES = {"clean": "dynabert_glue.toml", "reference": "dynabert_glue_reference.toml"}
"""The recipes whose last stage is measured, by flavour."""
STEP_BAR = 1.05
REPEATED_PASSES = 3
"""How often the released code repeats the teacher's pass, which gives the same outputs each time."""


@dataclass(frozen=True)
class Step:
    """A training step in two parts, timed apart: the forward and backward passes, then clipping and the optimizer."""

    passes: Callable[[], object]
    update: Callable[[], object]


@dataclass(frozen=True)
class Bench:
    """What every variant trains: the super-network with its optimizer, a frozen teacher, the recipe's stages, a batch."""

    supernet: SuperNet
    optimizer: torch.optim.Optimizer
    teacher: SuperNet
    recipes: dict[str, Recipe]
    batch: Batch


def make_bench(arguments: argparse.Namespace) -> Bench:
    shape = shape_of(arguments)
    model = bert(shape, arguments.attention, arguments.dropout)
    teacher = slimmable(copy.deepcopy(model)).requires_grad_(False).eval()
    folder = Path(__file__).parents[1] / "recipes"
    recipes = {flavour: read_recipe(folder / file) for flavour, file in RECIPES.items()}
    supernet = slimmable(model)
    supernet.train()
    return Bench(supernet, adamw(model), teacher, recipes, batches(shape, 1, shape.batch_size)[0])


def adamw(model: nn.Module) -> torch.optim.Optimizer:
    """An optimizer whose state is allocated already, as it is after the first step."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-5, weight_decay=0.0)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    optimizer.zero_grad()
    return optimizer


def update(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad()


def elastic(bench: Bench, flavour: str) -> Step:
    """The step of a flavour's last stage."""
    stage = bench.recipes[flavour].stage[-1]
    step = ElasticStep(bench.supernet, [(str(i), term) for i, term in enumerate(stage.terms)], bench.teacher, stage.follow)
    specs = [point.spec for point in bench.recipes[flavour].space.to_space(bench.supernet.topology).points()]

    def passes() -> None:
        bench.supernet.allocate_gradients_()
        step(bench.batch, specs, lambda loss: loss.backward())

    return Step(passes, partial(update, bench.supernet.model, bench.optimizer))


def stand_alone(bench: Bench, point: Point, lesson: Outputs) -> Step:
    """The step of an independent model of one sub-network's size, the teacher's outputs being at hand."""
    model = bench.supernet.extract(point.spec).train()
    terms = bench.recipes["clean"].stage[-1].terms

    def passes() -> None:
        student = forward(model, bench.supernet.topology, point.spec, bench.batch, hidden=True, labels=False)
        torch.stack([term.weight * term(student, lesson, bench.batch) for term in terms]).sum().backward()

    return Step(passes, partial(update, model, adamw(model)))


def teach(bench: Bench) -> Outputs:
    """One forward pass of the full-size teacher, its hidden states recorded."""
    whole = bench.teacher.topology.full
    with torch.no_grad():
        network = bench.teacher.subnet(whole)
        return forward(network, bench.teacher.topology, whole, bench.batch, hidden=True, labels=False)


def variants(bench: Bench) -> Iterator[tuple[str, Step]]:
    """Every variant, made when it is its turn: 12 stand-alone models at once would not fit in a small memory."""
    yield "teacher", Step(partial(teach, bench), lambda: None)
    for flavour in RECIPES:
        yield flavour, elastic(bench, flavour)
    lesson = teach(bench)
    for point in grid(bench.supernet).points():
        yield point.name, stand_alone(bench, point, lesson)


def time_steps(bench: Bench, arguments: argparse.Namespace) -> Samples:
    timings: dict[str, list[Timing]] = {}
    for number in range(arguments.warmup + arguments.rounds):
        for name, step in variants(bench):
            parts = {f"{name} passes": measure(step.passes), f"{name} update": measure(step.update)}
            if number >= arguments.warmup:
                for part, timing in parts.items():
                    timings.setdefault(part, []).append(timing)
    return Samples(timings, arguments.clock)


def both(*names: str) -> list[str]:
    return [part for name in names for part in (f"{name} passes", f"{name} update")]


def main() -> None:
    options = parser(__doc__.partition("\n")[0], rounds=3)
    options.add_argument("--dropout", type=float, default=0.1, help="dropout of hidden states and attention")
    options.add_argument("--warmup", type=int, default=1, help="rounds before the measured ones")
    arguments = options.parse_args()
    torch.set_num_threads(arguments.threads)
    bench = make_bench(arguments)
    samples = time_steps(bench, arguments)
    names = [point.name for point in grid(bench.supernet).points()]
    report(arguments, [step_table(samples, names)], bars(samples, names), {"steps": samples})


def step_table(samples: Samples, names: list[str]) -> Table:
    teacher, whole = ["teacher passes"], both(*names)
    parts = {
        "teacher forward": teacher,
        "12 stand-alone steps": whole,
        "clean": both("clean"),
        "reference": both("reference"),
        "reference as released": [*both("reference"), *teacher * REPEATED_PASSES],
    }
    rows = [[name, samples.median(*part), samples.ratio(part, [*whole, *teacher])] for name, part in parts.items()]
    return table("One step of stage two, 12 sub-networks", ["step", "seconds", "/ ideal"], rows)


def bars(samples: Samples, names: list[str]) -> list[Bar]:
    """Both flavours against the ideal; the strictest way leaves the ideal's optimizers out."""
    teacher, passes = "teacher passes", [f"{name} passes" for name in names]
    return [
        Bar(f"{flavour} step / {title}", samples.ratio(both(flavour), [*parts, teacher]), STEP_BAR)
        for flavour in RECIPES
        for title, parts in (
            ("12 stand-alone steps and a teacher forward", both(*names)),
            ("their passes alone and a teacher forward", passes),
        )
    ]


if __name__ == "__main__":
    main()
