"""Importance scoring: seconds and "forwards" per example, peak memory, and agreement with the reference's formula.

One forward is one inference pass of the full model over the same examples, in the same round of the same process.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

import torch
from common import (
    Bar,
    Samples,
    batches,
    bert,
    child_options,
    children_gib,
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

from slimformer.importance import ActivationNorm, FirstOrder, Magnitude, Scores
from slimformer.supernet import Batch, SuperNet

Run = Callable[[SuperNet, Sequence[Batch]], Scores]


def loaded(supernet: SuperNet, data: Sequence[Batch]) -> Scores:
    """Nothing: how much memory the loaded model takes."""
    return {}


def forward(supernet: SuperNet, data: Sequence[Batch]) -> Scores:
    """One inference pass of the full model over each batch."""
    with torch.no_grad():
        for batch in data:
            supernet.model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"])
    return {}


def reference(supernet: SuperNet, data: Sequence[Batch]) -> Scores:
    """The formula of DynaBERT's released code: |sum of weight * gradient|, with every weight taking gradients.

    Heads by a gate on their part of the attention context. Gradients are cleared between batches (the release forgets
    to), and the absolute value is taken after the last batch.
    """
    model = supernet.model
    sums: dict[str, Tensor] = {}
    with head_gates(model) as gates:
        for batch in data:
            model(**batch).loss.backward()
            for name, value in products(model, gates).items():
                sums[name] = sums[name] + value if name in sums else value
            model.zero_grad()
            for gate in gates:
                gate.grad = None
    return _reference_scores(sums, len(gates))


@contextmanager
def head_gates(model: nn.Module) -> Iterator[list[Tensor]]:
    """A gate of ones on each head of each block, where the context enters the output projection."""
    gates = []
    with ExitStack() as hooks:
        for block in model.bert.encoder.layer:
            gates.append(torch.ones(block.attention.self.num_attention_heads, 1, dtype=model.dtype, requires_grad=True))
            hooks.callback(block.attention.output.dense.register_forward_pre_hook(_gate(gates[-1])).remove)
        yield gates


def _gate(gate: Tensor) -> Callable[..., tuple[Tensor]]:
    return lambda _, args: ((args[0].unflatten(-1, (len(gate), -1)) * gate).flatten(-2),)


def products(model: nn.Module, gates: Sequence[Tensor]) -> dict[str, Tensor]:
    """Weight times gradient, summed over each unit's weights on each side of the unit."""
    found = {}
    for number, (block, gate) in enumerate(zip(model.bert.encoder.layer, gates, strict=True)):
        before, after = block.intermediate.dense, block.output.dense
        found[f"{number}.heads"] = gate.grad.flatten()
        found[f"{number}.before"] = (before.weight * before.weight.grad).sum(1).add(before.bias * before.bias.grad).detach()
        found[f"{number}.after"] = (after.weight * after.weight.grad).sum(0).detach()
    return found


def _reference_scores(sums: Mapping[str, Tensor], blocks: int) -> Scores:
    scores = {}
    for number in range(blocks):
        scores[f"encoder.{number}.heads"] = sums[f"{number}.heads"].abs()
        scores[f"encoder.{number}.ffn"] = sums[f"{number}.before"].abs() + sums[f"{number}.after"].abs()
    return scores


VARIANTS: dict[str, Run] = {
    "loaded": loaded,
    "forward": forward,
    "first_order": FirstOrder(),
    "activation_norm": ActivationNorm(),
    "magnitude": Magnitude(),
    "reference": reference,
}
FORWARDS_BARS = {"first_order": 2.1, "activation_norm": 1.05}
MEMORY_BAR_GIB = 2.5


@dataclass
class Recorder:
    """Runs the variants and keeps their last scores."""

    supernet: SuperNet
    data: Sequence[Batch]
    scores: dict[str, Scores] = field(default_factory=dict)

    def runner(self, name: str) -> Callable[[], None]:
        def run() -> None:
            self.scores[name] = VARIANTS[name](self.supernet, self.data)

        return run


def make_recorder(arguments: argparse.Namespace) -> Recorder:
    shape = shape_of(arguments)
    supernet = slimmable(bert(shape, arguments.attention).eval())
    return Recorder(supernet, batches(shape, arguments.batches, shape.batch_size))


def largest_difference(scores: Scores, expected: Scores) -> float:
    """The largest difference over all groups, each relative to the group's largest score."""
    return max(float((scores[name] - value).abs().max() / value.abs().max()) for name, value in expected.items())


def precise_difference(arguments: argparse.Namespace) -> float:
    """`largest_difference` in float64, on two examples: whether both compute the same number, rounding apart."""
    shape = shape_of(arguments)
    supernet, data = slimmable(bert(shape, arguments.attention).eval().double()), batches(shape, 1, 2)
    return largest_difference(FirstOrder()(supernet, data), reference(supernet, data))


def score_table(samples: Samples, peaks: Mapping[str, float], examples: int) -> Table:
    rows = []
    for name in samples.rounds:
        milliseconds = samples.median(name) / examples * 1000
        rows.append([name, milliseconds, samples.ratio([name], ["forward"]), peaks.get(name, "")])
    return table(f"Scoring {examples} examples", ["scorer", "ms per example", "forwards", "peak GiB"], rows)


def bars(samples: Samples, peaks: Mapping[str, float], differences: Mapping[str, float]) -> list[Bar]:
    found = [Bar(name, samples.ratio([name], ["forward"]), limit, "forwards") for name, limit in FORWARDS_BARS.items()]
    if peaks:
        found.append(Bar("first_order peak memory", peaks["first_order"], MEMORY_BAR_GIB, "GiB"))
    title = "first_order against the reference's formula, relative difference"
    return [*found, *(Bar(f"{title}, {dtype}", value, 1e-6, "") for dtype, value in differences.items())]


def print_memory(arguments: argparse.Namespace) -> None:
    """Run one variant over the batches and print the process's peak memory."""
    make_recorder(arguments).runner(arguments.only)()
    print(json.dumps({"peak_gib": peak_gib()}))


def main() -> None:
    options = parser(__doc__.partition("\n")[0], rounds=5)
    options.add_argument("--batches", type=int, default=4, help="batches of 16 examples that each scorer reads")
    options.add_argument("--no-memory", action="store_true", help="leave the memory out")
    child_options(options, list(VARIANTS))
    arguments = options.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.memory:
        print_memory(arguments)
        return
    peaks = {} if arguments.no_memory else children_gib(list(VARIANTS))
    recorder = make_recorder(arguments)
    samples = interleave(
        {name: recorder.runner(name) for name in VARIANTS if name != "loaded"}, arguments.rounds, arguments.clock
    )
    differences = {
        "float32": largest_difference(recorder.scores["first_order"], recorder.scores["reference"]),
        "float64": precise_difference(arguments),
    }
    examples = sum(len(batch["labels"]) for batch in recorder.data)
    report(arguments, [score_table(samples, peaks, examples)], bars(samples, peaks, differences), {"scoring": samples})


if __name__ == "__main__":
    main()
