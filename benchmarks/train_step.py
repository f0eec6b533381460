"""A training step over the widths 1, 0.75, 0.5, 0.25: live views against stand-alone models, slicing, masks, one full step.

The ideal is the sum of the steps of four stand-alone models of the same sizes. It is given three times: forward and
backward only against the whole elastic step (the strictest), with an optimizer step of each of the four models, and
forward and backward of both.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial

import torch
from common import (
    Bar,
    Samples,
    batches,
    bert,
    child_options,
    children_gib,
    grid,
    interleave,
    parser,
    peak_gib,
    report,
    shape_of,
    slimmable,
    table,
)
from rich.table import Table
from torch import Tensor, nn

from slimformer.importance.base import readers
from slimformer.supernet import Batch, SubnetSpec, SuperNet

ELASTIC_BAR = 1.02
MEMORY_BAR = 1.2


@dataclass(frozen=True)
class Step:
    """A training step in two parts, timed apart: the forward and backward passes, then clipping and the optimizer."""

    passes: Callable[[], None]
    update: Callable[[], None]


@dataclass(frozen=True)
class Bench:
    """What every variant trains: one super-network, its optimizer, the widths, a batch."""

    supernet: SuperNet
    optimizer: torch.optim.Optimizer
    specs: tuple[SubnetSpec, ...]
    batch: Batch


def make_bench(arguments: argparse.Namespace) -> Bench:
    shape = shape_of(arguments)
    supernet = slimmable(bert(shape, arguments.attention, arguments.dropout))
    specs = tuple(point.spec for point in grid(supernet, depths=(1.0,)).points())
    supernet.train()
    return Bench(supernet, adamw(supernet.model), specs, batches(shape, 1, shape.batch_size)[0])


def adamw(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.AdamW(model.parameters(), lr=2e-5)


def back(network: Callable[..., object], batch: Batch, bf16: bool = False) -> None:
    """One forward and backward pass."""
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        loss = network(**batch).loss  # type: ignore[attr-defined]
    loss.backward()


def update(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad()


def full(bench: Bench, bf16: bool = False) -> Step:
    """One ordinary step of the full-size model."""
    model = bench.supernet.model
    return Step(partial(back, model, bench.batch, bf16), partial(update, model, bench.optimizer))


def elastic(bench: Bench, bf16: bool = False) -> Step:
    """Live views of every width, whose backward passes add into the super-network's gradient."""

    def passes() -> None:
        bench.supernet.allocate_gradients_()
        for spec in bench.specs:
            back(bench.supernet.subnet(spec), bench.batch, bf16)

    return Step(passes, partial(update, bench.supernet.model, bench.optimizer))


def stand_alone(bench: Bench) -> Step:
    """The ideal: an independent model of every width, each with its own optimizer."""
    pairs = [(model.train(), adamw(model)) for model in map(bench.supernet.extract, bench.specs)]

    def passes() -> None:
        for model, _ in pairs:
            back(model, bench.batch)

    def updates() -> None:
        for model, optimizer in pairs:
            update(model, optimizer)

    return Step(passes, updates)


def sliced(bench: Bench) -> Step:
    """Slices of the full parameters made inside autograd."""
    skeletons = [(bench.supernet.frozen(spec).train(), spec) for spec in bench.specs]
    topology, model = bench.supernet.topology, bench.supernet.model

    def cut(spec: SubnetSpec) -> dict[str, Tensor]:
        sizes = {name: topology.shape(name, full.shape, spec) for name, full in model.named_parameters()}
        return {name: full[tuple(slice(n) for n in sizes[name])] for name, full in model.named_parameters()}

    def passes() -> None:
        for skeleton, spec in skeletons:
            network = partial(torch.func.functional_call, skeleton, cut(spec), ())
            back(lambda call=network, **batch: call(batch), bench.batch)

    return Step(passes, partial(update, model, bench.optimizer))


def masked(bench: Bench) -> Step:
    """Full compute with heads and neurons multiplied by 0 or 1."""
    masks = [unit_masks(bench.supernet, spec) for spec in bench.specs]
    model = bench.supernet.model

    def passes() -> None:
        for mask in masks:
            with masking(model, mask):
                back(model, bench.batch)

    return Step(passes, partial(update, model, bench.optimizer))


def unit_masks(supernet: SuperNet, spec: SubnetSpec) -> dict[str, Tensor]:
    """For each module that reads units: 1 at the inputs that the spec keeps, 0 elsewhere."""
    masks = {}
    for group in supernet.topology.groups:
        for module, unit_size in readers(group):
            kept = torch.arange(group.num_units) < spec.units[group.name]
            masks[module] = kept.repeat_interleave(unit_size).float()
    return masks


@contextmanager
def masking(model: nn.Module, masks: dict[str, Tensor]) -> Iterator[None]:
    with ExitStack() as hooks:
        for name, mask in masks.items():
            handle = model.get_submodule(name).register_forward_pre_hook(lambda _, args, mask=mask: (args[0] * mask,))
            hooks.callback(handle.remove)
        yield


VARIANTS: dict[str, Callable[[Bench], Step]] = {
    "full": full,
    "elastic": elastic,
    "stand-alone": stand_alone,
    "sliced": sliced,
    "masked": masked,
}
BF16_VARIANTS: dict[str, Callable[[Bench], Step]] = {
    "full bf16": partial(full, bf16=True),
    "elastic bf16": partial(elastic, bf16=True),
}


def gradients(bench: Bench, step: Step) -> dict[str, Tensor]:
    """The gradient of each of the super-network's parameters after the passes of a step; they are cleared again."""
    step.passes()
    named = bench.supernet.model.named_parameters()
    found = {name: parameter.grad.clone() for name, parameter in named if parameter.grad is not None}
    bench.supernet.model.zero_grad()
    return found


def largest_difference(found: dict[str, Tensor], expected: dict[str, Tensor]) -> float:
    """The largest difference, relative to the parameter's own largest gradient, so that no layer hides another's error.

    Gradients below a millionth of the largest are rounding noise (a key's bias has none at all) and count as that size.
    """
    floor = max(float(gradient.abs().max()) for gradient in expected.values()) * 1e-6
    return max(float((found[n] - g).abs().max()) / max(float(g.abs().max()), floor) for n, g in expected.items())


def differences(arguments: argparse.Namespace) -> dict[str, float]:
    """How far the gradients of slicing and masking are from those of live views, without dropout."""
    bench = make_bench(argparse.Namespace(**{**vars(arguments), "dropout": 0.0}))
    bench = replace(bench, batch={name: tensor[:2] for name, tensor in bench.batch.items()})
    live = gradients(bench, elastic(bench))
    return {name: largest_difference(gradients(bench, VARIANTS[name](bench)), live) for name in ("sliced", "masked")}


def time_steps(arguments: argparse.Namespace) -> Samples:
    """Time the parts of all variants, interleaved; they share the super-network, only the ideal has models of its own."""
    bench = make_bench(arguments)
    variants = VARIANTS | (BF16_VARIANTS if arguments.bf16 else {})
    parts = {}
    for name, build in variants.items():
        step = build(bench)
        parts |= {f"{name} passes": step.passes, f"{name} update": step.update}
    return interleave(parts, arguments.rounds, arguments.clock, arguments.warmup)


def both(name: str) -> tuple[str, str]:
    return f"{name} passes", f"{name} update"


def step_table(samples: Samples, peaks: dict[str, float], names: Sequence[str]) -> Table:
    rows = []
    for name in names:
        whole = samples.median(*both(name))
        ratios = [samples.ratio(both(name), both(other)) for other in ("full", "stand-alone")]
        peak = (peaks[name], peaks[name] / peaks["full"]) if name in peaks else ("", "")
        rows.append([name, whole, samples.median(f"{name} update"), *ratios, *peak])
    columns = ["step", "seconds", "of it optimizer", "/ full", "/ ideal", "peak GiB", "/ full"]
    return table("One training step, four widths (full: one)", columns, rows)


def bars(samples: Samples, peaks: dict[str, float], differing: dict[str, float]) -> list[Bar]:
    """The bars; the elastic step is held against the ideal in three ways."""
    own, passes = ["stand-alone passes", "stand-alone update"], ["stand-alone passes"]
    found = [
        Bar("elastic step / ideal with its four optimizer steps", samples.ratio(both("elastic"), own), ELASTIC_BAR),
        Bar("elastic step / ideal's passes alone", samples.ratio(both("elastic"), passes), ELASTIC_BAR),
        Bar("elastic passes / ideal's passes", samples.ratio(["elastic passes"], passes), ELASTIC_BAR),
    ]
    if peaks:
        found.append(Bar("elastic peak memory / full step's", peaks["elastic"] / peaks["full"], MEMORY_BAR))
    found += [Bar(f"gradient of {name} steps against live views", error, 1e-4, "") for name, error in differing.items()]
    if "elastic bf16 passes" in samples.rounds:
        for name in ("full", "elastic"):
            found.append(Bar(f"{name} step in bfloat16 / float32", samples.ratio(both(f"{name} bf16"), both(name)), 1.0))
    return found


def print_memory(arguments: argparse.Namespace) -> None:
    """Run two steps of one variant and print the process's peak memory."""
    step = (VARIANTS | BF16_VARIANTS)[arguments.only](make_bench(arguments))
    for _ in range(2):
        step.passes()
        step.update()
    print(json.dumps({"peak_gib": peak_gib()}))


def main() -> None:
    options = parser(__doc__.partition("\n")[0], rounds=5)
    options.add_argument("--dropout", type=float, default=0.1, help="dropout of hidden states and attention")
    options.add_argument("--warmup", type=int, default=1, help="rounds before the measured ones")
    options.add_argument("--bf16", action="store_true", help="also the elastic and the full step under bfloat16 autocast")
    options.add_argument("--no-memory", action="store_true", help="leave the memory out")
    child_options(options, list(VARIANTS | BF16_VARIANTS))
    arguments = options.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.memory:
        print_memory(arguments)
        return
    names = [*VARIANTS, *(BF16_VARIANTS if arguments.bf16 else ())]
    peaks = {} if arguments.no_memory else children_gib(names)
    differing = differences(arguments)
    samples = time_steps(arguments)
    report(arguments, [step_table(samples, peaks, names)], bars(samples, peaks, differing), {"steps": samples})


if __name__ == "__main__":
    main()
