"""What the benchmarks share: interleaved timing, bars, tables, the machine's description, models and sub-networks."""

from __future__ import annotations

import argparse
import copy
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
import transformers
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from transformers import BertConfig, BertForSequenceClassification

from slimformer.axes import DEPTH_POLICIES, Axis, Space
from slimformer.backbones import backbone_for
from slimformer.plugins import load_plugins
from slimformer.supernet import SuperNet

WIDTHS = (1.0, 0.75, 0.5, 0.25)
DEPTHS = (1.0, 0.75, 0.5)
GIB = 2**30


@dataclass(frozen=True)
class Shape:
    """A BERT classifier's size and the batches it is measured on."""

    blocks: int
    hidden: int
    heads: int
    neurons: int
    vocabulary: int
    batch_size: int
    length: int


BASE = Shape(blocks=12, hidden=768, heads=12, neurons=3072, vocabulary=30522, batch_size=16, length=128)
TINY = Shape(blocks=4, hidden=64, heads=4, neurons=128, vocabulary=100, batch_size=4, length=16)


@dataclass(frozen=True)
class Timing:
    """Seconds of the process's CPU time and of wall time."""

    cpu: float
    wall: float


@dataclass(frozen=True)
class Bar:
    """A measured number beside the most it may be."""

    name: str
    measured: float
    limit: float
    unit: str = "x"

    @property
    def met(self) -> bool:
        return self.measured <= self.limit

    def __str__(self) -> str:
        verdict = "met" if self.met else "NOT MET"
        return f"{self.name}: {self.measured:.3g} {self.unit}, bar {self.limit:g} {self.unit}: {verdict}"


class Samples:
    """The timings of several variants, one of each in every round."""

    def __init__(self, rounds: Mapping[str, Sequence[Timing]], clock: str) -> None:
        self.rounds = rounds
        self.clock = clock

    def seconds(self, *names: str) -> list[float]:
        """The summed seconds of some variants in each round, on the chosen clock."""
        return [
            sum(getattr(t, self.clock) for t in together) for together in zip(*(self.rounds[n] for n in names), strict=True)
        ]

    def median(self, *names: str) -> float:
        return statistics.median(self.seconds(*names))

    def ratio(self, over: Sequence[str], under: Sequence[str]) -> float:
        """The median over the rounds of the ratio within a round."""
        pairs = zip(self.seconds(*over), self.seconds(*under), strict=True)
        return statistics.median(a / b for a, b in pairs)

    def to_json(self) -> dict[str, Any]:
        return {name: [asdict(timing) for timing in timings] for name, timings in self.rounds.items()}


def measure(run: Callable[[], object]) -> Timing:
    """The time of one call."""
    cpu, wall = time.process_time(), time.perf_counter()
    run()
    return Timing(time.process_time() - cpu, time.perf_counter() - wall)


def interleave(variants: Mapping[str, Callable[[], object]], rounds: int, clock: str, warmup: int = 1) -> Samples:
    """Run all variants in turn, round after round, so that a change of the machine's load hits all of them alike."""
    timings: dict[str, list[Timing]] = {name: [] for name in variants}
    for number in range(warmup + rounds):
        for name, run in variants.items():
            timing = measure(run)
            if number >= warmup:
                timings[name].append(timing)
    return Samples(timings, clock)


def parser(description: str, rounds: int) -> argparse.ArgumentParser:
    """The options that all benchmarks have."""
    options = argparse.ArgumentParser(description=description)
    options.add_argument("--rounds", type=int, default=rounds, help="rounds in which every variant runs once")
    options.add_argument("--threads", type=int, default=1, help="torch's intra-op threads")
    options.add_argument("--clock", choices=("cpu", "wall"), default="cpu", help="seconds that the ratios are made of")
    options.add_argument("--attention", default="sdpa", help="the attention implementation of transformers")
    options.add_argument("--json", type=Path, help="file for the machine, the bars and all samples")
    options.add_argument("--batch-size", type=int, help="examples in a batch of a training or scoring step")
    options.add_argument("--blocks", type=int, help="transformer blocks, where 12 of BERT-base take too long")
    options.add_argument("--tiny", action="store_true", help="a tiny model, to see that the script runs")
    return options


def child_options(options: argparse.ArgumentParser, variants: Sequence[str]) -> None:
    """The options with which a script calls itself to measure one variant's memory."""
    options.add_argument("--only", choices=variants, help="one variant alone, with --memory")
    options.add_argument("--memory", action="store_true", help="print the peak memory of --only as JSON, and nothing else")


def shape_of(arguments: argparse.Namespace) -> Shape:
    """The model's size and the batch size that the options ask for."""
    shape = TINY if arguments.tiny else BASE
    return replace(shape, batch_size=arguments.batch_size or shape.batch_size, blocks=arguments.blocks or shape.blocks)


def bert(shape: Shape, attention: str, dropout: float = 0.0) -> BertForSequenceClassification:
    """A BERT classifier with random weights, the same in every process."""
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=shape.vocabulary,
        hidden_size=shape.hidden,
        num_hidden_layers=shape.blocks,
        num_attention_heads=shape.heads,
        intermediate_size=shape.neurons,
        max_position_embeddings=512,
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
        attn_implementation=attention,
    )
    return BertForSequenceClassification(config)


def batches(shape: Shape, number: int, batch_size: int) -> list[dict[str, Tensor]]:
    """Batches of random tokens without padding, with random labels of two classes."""
    generator = torch.Generator().manual_seed(1)
    sizes = (batch_size, shape.length)

    def draw() -> dict[str, Tensor]:
        ids = torch.randint(shape.vocabulary, sizes, generator=generator)
        labels = torch.randint(2, (batch_size,), generator=generator)
        return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": labels}

    return [draw() for _ in range(number)]


def slimmable(model: nn.Module) -> SuperNet:
    load_plugins()
    return SuperNet(model, backbone_for(model).topology(model))


def grid(supernet: SuperNet, depths: tuple[float, ...] = DEPTHS) -> Space:
    """The sub-networks of DynaBERT: four widths, and three depths unless told otherwise."""
    policy = DEPTH_POLICIES.get("keep_last")()
    return Space(supernet.topology, (Axis("width", WIDTHS), Axis("depth", depths)), policy)


def hand_made(model: BertForSequenceClassification, heads: int, neurons: int, blocks: Sequence[int]) -> nn.Module:
    """A sub-network as one writes it without slimformer: a stock model, some of its linear layers replaced by smaller ones."""
    small = copy.deepcopy(model)
    small.bert.encoder.layer = nn.ModuleList([small.bert.encoder.layer[block] for block in blocks])
    small.config.num_hidden_layers = len(blocks)
    for block in small.bert.encoder.layer:
        attention = block.attention.self
        columns = heads * attention.attention_head_size
        for name in ("query", "key", "value"):
            setattr(attention, name, _smaller(getattr(attention, name), rows=columns))
        attention.num_attention_heads, attention.all_head_size = heads, columns
        block.attention.output.dense = _smaller(block.attention.output.dense, columns=columns)
        block.intermediate.dense = _smaller(block.intermediate.dense, rows=neurons)
        block.output.dense = _smaller(block.output.dense, columns=neurons)
    return small


def _smaller(full: nn.Linear, rows: int | None = None, columns: int | None = None) -> nn.Linear:
    weight = full.weight[:rows, :columns]
    linear = nn.Linear(weight.shape[1], weight.shape[0])
    with torch.no_grad():
        linear.weight.copy_(weight)
        linear.bias.copy_(full.bias[:rows])
    return linear


def peak_gib() -> float:
    """The largest resident memory that this process has had, in GiB."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / GIB


def children_gib(variants: Sequence[str]) -> dict[str, float]:
    """Each variant's peak memory: this script runs once more for each, with `--only VARIANT --memory`.

    Call it before building a model: on Linux a child's peak begins at its parent's.
    """
    peaks = {}
    for variant in variants:
        command = [sys.executable, *sys.argv, "--only", variant, "--memory"]
        finished = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        peaks[variant] = float(json.loads(finished.stdout.splitlines()[-1])["peak_gib"])
    return peaks


def machine(arguments: argparse.Namespace) -> dict[str, Any]:
    """What one needs to know to compare the numbers with others."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 1),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "attention": arguments.attention,
        "rounds": arguments.rounds,
        "clock": arguments.clock,
        "shape": asdict(shape_of(arguments)),
    }


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.machine())


def report(arguments: argparse.Namespace, tables: Sequence[Table], bars: Sequence[Bar], samples: Mapping[str, Samples]) -> None:
    """Print the machine, the tables and a line for each bar; write everything to `--json` if asked."""
    console = Console(width=max(128, Console().width))
    about = machine(arguments)
    console.print(", ".join(f"{key} {value}" for key, value in about.items() if key != "shape"), highlight=False)
    for table in tables:
        console.print(table)
    for bar in bars:
        console.print(str(bar), style="green" if bar.met else "red", highlight=False)
    if arguments.json:
        found = {"machine": about, "bars": [{**asdict(bar), "met": bar.met} for bar in bars]}
        found["samples"] = {name: part.to_json() for name, part in samples.items()}
        arguments.json.write_text(json.dumps(found, indent=1) + "\n")


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> Table:
    """A rich table: the first column is text, the others are numbers; floats get three digits."""
    made = Table(title=title, title_justify="left")
    for number, column in enumerate(columns):
        made.add_column(column, justify="right" if number else "left")
    for row in rows:
        made.add_row(*(f"{cell:.3g}" if isinstance(cell, float) else str(cell) for cell in row))
    return made
