"""Inference: each of the 12 sub-networks live, extracted and made by hand, against the full model and its FLOPs share."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from statistics import median

import torch
from common import (
    Bar,
    Samples,
    Timing,
    batches,
    bert,
    grid,
    hand_made,
    interleave,
    measure,
    parser,
    report,
    shape_of,
    slimmable,
    table,
)
from rich.table import Table
from torch import Tensor, nn

from slimformer.axes import Point
from slimformer.supernet import Batch, SuperNet

BATCH_SIZES = (1, 8)
SAME_LATENCY_BAR = 1.03
OUTPUT_BAR = 1e-5
BUILD_BAR_SECONDS = 0.05
EXTRACT_BAR_SECONDS = 0.25


@dataclass(frozen=True)
class Measured:
    """One sub-network: its latencies by batch size, its building times, how far its outputs are from the hand-made one's."""

    point: Point
    latencies: Mapping[int, Samples]
    build: Timing
    extract: Timing
    difference: float

    @property
    def share(self) -> float:
        """The sub-network's share of the full model's FLOPs: width times depth."""
        width, depth = (ratio for _, ratio in self.point.ratios)
        return width * depth


def networks(supernet: SuperNet, point: Point) -> dict[str, nn.Module]:
    """The full model and three forms of one sub-network."""
    units, blocks = point.spec.units, point.spec.blocks["encoder"]
    heads, neurons = units[f"encoder.{blocks[0]}.heads"], units[f"encoder.{blocks[0]}.ffn"]
    by_hand = hand_made(supernet.model, heads, neurons, blocks)
    return {
        "full": supernet.model,
        "live": supernet.subnet(point.spec),
        "extracted": supernet.extract(point.spec).eval(),
        "hand-made": by_hand.eval(),
    }


def latency(forms: Mapping[str, nn.Module], batch: Batch, repeats: int, arguments: argparse.Namespace) -> Samples:
    """The time of `repeats` forward passes of each form, interleaved."""

    def run(network: nn.Module) -> None:
        for _ in range(repeats):
            network(**batch)

    return interleave({name: partial(run, form) for name, form in forms.items()}, arguments.rounds, arguments.clock)


def typical(supernets: list[SuperNet], build: Callable[[SuperNet], nn.Module]) -> Timing:
    """The median time of a build over several super-networks; a single one may pay for a garbage collection."""
    timings = [measure(partial(build, supernet)) for supernet in supernets]
    return Timing(median(timing.cpu for timing in timings), median(timing.wall for timing in timings))


def measure_point(model: nn.Module, point: Point, data: Mapping[int, Batch], arguments: argparse.Namespace) -> Measured:
    """Everything about one sub-network; the building times are those of a fresh super-network."""
    fresh = [slimmable(model) for _ in range(arguments.rounds)]
    build = typical(fresh, lambda supernet: supernet.subnet(point.spec))
    extract = typical(fresh, lambda supernet: supernet.extract(point.spec))
    forms = networks(fresh[0], point)
    latencies = {size: latency(forms, batch, max(BATCH_SIZES) // size, arguments) for size, batch in data.items()}
    outputs = {name: form(**data[1]).logits for name, form in forms.items()}
    expected = outputs["hand-made"]
    difference = max(_difference(outputs[name], expected) for name in ("live", "extracted"))
    return Measured(point, latencies, build, extract, difference)


def _difference(output: Tensor, expected: Tensor) -> float:
    return float((output - expected).abs().max())


def latency_table(measured: list[Measured], size: int) -> Table:
    rows = []
    for each in measured:
        samples = each.latencies[size]
        ratios = [samples.ratio([form], ["full"]) for form in ("live", "extracted", "hand-made")]
        same = [samples.ratio([form], ["hand-made"]) for form in ("live", "extracted")]
        rows.append([each.point.name, each.share, *ratios, ratios[1] / each.share, *same])
    columns = ["sub-network", "FLOPs", "live", "extracted", "hand-made", "extr. / FLOPs", "live / hand", "extr. / hand"]
    return table(f"Latency over the full model's, batch {size}", columns, rows)


def build_table(measured: list[Measured], clock: str) -> Table:
    rows = []
    for each in measured:
        milliseconds = [getattr(timing, clock) * 1000 for timing in (each.build, each.extract)]
        rows.append([each.point.name, *milliseconds, f"{each.difference:.1e}"])
    return table("Building", ["sub-network", "live ms", "extract ms", "largest output difference"], rows)


def bars(measured: list[Measured], clock: str) -> list[Bar]:
    """The worst sub-network decides; latency ratios of single sub-networks are noisy, so their mean is given too."""
    found = []
    for size in BATCH_SIZES:
        for form in ("live", "extracted"):
            ratios = [m.latencies[size].ratio([form], ["hand-made"]) for m in measured]
            found.append(Bar(f"{form} / hand-made, batch {size}, mean", sum(ratios) / len(ratios), SAME_LATENCY_BAR))
            found.append(Bar(f"{form} / hand-made, batch {size}, worst", max(ratios), SAME_LATENCY_BAR))
    found.append(Bar("building a live sub-network", max(getattr(m.build, clock) for m in measured), BUILD_BAR_SECONDS, "s"))
    found.append(Bar("extracting", max(getattr(m.extract, clock) for m in measured), EXTRACT_BAR_SECONDS, "s"))
    found.append(Bar("output difference", max(m.difference for m in measured), OUTPUT_BAR, ""))
    return found


def main() -> None:
    options = parser(__doc__, rounds=9)
    options.add_argument("--subnets", nargs="+", default=[], help='some sub-networks only, such as "width0.5-depth1"')
    arguments = options.parse_args()
    torch.set_num_threads(arguments.threads)
    shape = shape_of(arguments)
    model = bert(shape, arguments.attention).eval()
    data = {size: _inputs(batches(shape, 1, size)[0]) for size in BATCH_SIZES}
    with torch.no_grad():
        space = grid(slimmable(model))
        slimmable(model).extract(space.smallest().spec)
        points = [space.find(name) for name in arguments.subnets] or space.points()
        measured = [measure_point(model, point, data, arguments) for point in points]
    tables = [*(latency_table(measured, size) for size in BATCH_SIZES), build_table(measured, arguments.clock)]
    samples = {f"{m.point.name}, batch {size}": m.latencies[size] for m in measured for size in BATCH_SIZES}
    report(arguments, tables, bars(measured, arguments.clock), samples)


def _inputs(batch: Batch) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in batch.items() if name != "labels"}


if __name__ == "__main__":
    main()
