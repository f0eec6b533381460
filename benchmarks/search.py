"""The parts of a search: the exact solver's time and gap, counts against extracted models, and predicted latency."""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from random import Random

import torch
from common import Bar, bert, grid, parser, report, shape_of, slimmable, table
from rich.table import Table
from torch.utils.flop_counter import FlopCounterMode

from slimformer.axes import Axis, Space
from slimformer.backbones import backbone_for
from slimformer.costs import COSTS, Workload
from slimformer.search import Choices, Limit, Problem
from slimformer.search.additive import Basis
from slimformer.search.milp import solutions
from slimformer.search.neighbours import draw
from slimformer.supernet import SuperNet
from slimformer_counters.flops import sdpa_mapping
from slimformer_counters.stopwatch import Stopwatch

PARTS = ("solver", "counts", "latency")
BUDGETS = (0.75, 0.5, 0.3)
SEEDS = 3


def main() -> None:
    options = parser(__doc__ or "", rounds=3)
    options.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    options.add_argument("--specs", type=int, default=0, help="random specs of each part; 0: 1,000 counts, 30 latencies")
    options.add_argument("--seconds", type=float, default=45.0, help="for measuring the latency table")
    options.add_argument("--batch-sizes", nargs="+", type=int, default=(1, 8), help="of the latencies")
    arguments = options.parse_args()
    torch.set_num_threads(arguments.threads)
    tables: list[Table] = []
    bars: list[Bar] = []
    for part in arguments.parts:
        made, held = {"solver": solver, "counts": counts, "latency": latency}[part](arguments)
        tables.append(made)
        bars += held
    report(arguments, tables, bars, {})


def empty(arguments: argparse.Namespace) -> SuperNet:
    """The super-network without weights: shapes are enough for counting and solving."""
    with torch.device("meta"):
        return slimmable(bert(shape_of(arguments), arguments.attention).eval())


def solver(arguments: argparse.Namespace) -> tuple[Table, list[Bar]]:
    """Solve for three budgets of FLOPs, each with random importance: 12 blocks x 12 head counts x 8 widths x skipping."""
    net, shape = empty(arguments), shape_of(arguments)
    widths = tuple(part / 8 for part in range(1, 9))
    axes = (Axis("width.heads", (1.0, 1 / shape.heads)), Axis("width.ffn", widths), Axis("depth", (1.0, 1 / shape.blocks)))
    choices = Choices(Space(net.topology, axes, grid(net).depth_policy), {"width.heads": 1, "width.ffn": shape.neurons // 8})
    flops = COSTS.build("flops").price(net, backbone_for(net.model), Workload(1, shape.length))
    whole, rows, slowest, widest = flops(net.topology.full), [], 0.0, 0.0
    for budget in BUDGETS:
        for seed in range(SEEDS):
            importance = {g.name: _importance(g.num_units, seed, number) for number, g in enumerate(net.topology.groups)}
            limits = (Limit("flops", budget * whole),)
            problem = Problem(choices, lambda spec: {"flops": flops(spec)}, limits, importance=importance)
            basis = Basis.of(problem)
            values = basis.additive(0.0, basis.prior())
            clock = time.process_time if arguments.clock == "cpu" else time.perf_counter
            began = clock()
            found = next(solutions(problem, values))
            seconds = clock() - began
            used = flops(found.spec) / (budget * whole)
            rows.append((f"{budget:.0%}, importance {seed}", seconds, found.gap, 100 * used))
            slowest, widest = max(slowest, seconds), max(widest, found.gap)
    title = f"exact solver, {choices.count():.3g} sub-networks"
    made = table(title, ("budget", "seconds", "gap", "% of the budget used"), rows)
    return made, [Bar("slowest solve", slowest, 1.0, "s"), Bar("largest gap", widest, 1e-6, "")]


def _importance(units: int, seed: int, group: int) -> list[float]:
    random = Random(1000 * seed + group)
    scale = random.uniform(0.2, 1.0)
    return sorted((scale * random.expovariate(1.0) for _ in range(units)), reverse=True)


def counts(arguments: argparse.Namespace) -> tuple[Table, list[Bar]]:
    """Parameters and FLOPs of random per-layer specs against those of the extracted models, which are narrow to be quick."""
    shape = shape_of(arguments)
    shape = replace(shape, hidden=4 * shape.heads, neurons=shape.neurons // 16, vocabulary=100, length=16)
    net = slimmable(bert(shape, arguments.attention).eval())
    backbone, workload = backbone_for(net.model), Workload(1, shape.length)
    params, flops = (COSTS.build(name).price(net, backbone, workload) for name in ("params", "flops"))
    inputs = backbone.example(net.model, workload.batch_size, workload.length)
    generator, number, wrong = torch.Generator().manual_seed(0), arguments.specs or 1000, [0, 0]
    for _ in range(number):
        spec = grid(net).random_spec(generator)
        model = net.extract(spec)
        with torch.no_grad(), FlopCounterMode(display=False, custom_mapping=sdpa_mapping()) as counter:
            model(**inputs)
        wrong[0] += params(spec) != sum(p.numel() for p in model.parameters())
        wrong[1] += flops(spec) != counter.get_total_flops()
    made = table(f"{number} random per-layer specs", ("cost", "not equal"), [("params", wrong[0]), ("flops", wrong[1])])
    return made, [Bar("counts that differ from the extracted model's", sum(wrong), 0, "")]


def latency(arguments: argparse.Namespace) -> tuple[Table, list[Bar]]:
    """Predicted against measured latency of random per-layer specs, at batch 1 and 8."""
    net, shape = slimmable(bert(shape_of(arguments), arguments.attention).eval()), shape_of(arguments)
    backbone, choices, rows, bars = backbone_for(net.model), Choices(grid(net)), [], []
    random, threads = Random(0), arguments.threads
    specs = [draw(choices, random) for _ in range(arguments.specs or 30)]
    for batch_size in arguments.batch_sizes:
        workload = Workload(batch_size, shape.length)
        cost = COSTS.build({"name": "latency", "clock": arguments.clock, "threads": threads, "seconds": arguments.seconds})
        began = (time.perf_counter(), time.process_time())
        price = cost.price(net, backbone, workload)
        wall, cpu = time.perf_counter() - began[0], time.process_time() - began[1]
        watch = Stopwatch(net, backbone, workload, torch.device("cpu"), "", threads, arguments.clock)
        taken = watch.fastest(specs, 0.0)
        errors = sorted(abs(price(spec) / seconds - 1) for spec, seconds in taken.items())
        mean = sum(errors) / len(errors)
        rows.append((f"batch {batch_size}", 1e3 * price(net.topology.full), cpu, wall, 100 * mean, 100 * errors[-1]))
        bars.append(Bar(f"latency error, batch {batch_size}", 100 * mean, 5.0, "%"))
        bars.append(Bar(f"CPU seconds of measuring, batch {batch_size}", cpu, 60.0, "s"))
    columns = ("inputs", "whole model, ms", "table: CPU s", "table: wall s", "mean error, %", "largest, %")
    return table(f"latency of {len(specs)} random per-layer specs", columns, rows), bars


if __name__ == "__main__":
    main()
