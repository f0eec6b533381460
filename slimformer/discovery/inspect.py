"""What `slimformer inspect` shows: a model's topology, what is elastic in it, whether the laws hold, or a proposed topology."""

from __future__ import annotations

import re
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from slimformer import checkpoints, testing
from slimformer.axes.base import Axis, count
from slimformer.axes.space import Space
from slimformer.backbones.base import BACKBONES, Backbone, backbone_for, backbones_for
from slimformer.backbones.slim import SlimBackbone, family_of
from slimformer.costs.base import COSTS, Workload
from slimformer.costs.prices import counted_pricers
from slimformer.discovery import Proposal, backbone_name, plugin_source, propose
from slimformer.discovery.config_search import nested_fields
from slimformer.errors import CheckpointError, ExportError, TopologyError, WorkloadError, first_line
from slimformer.export.load import check_complete, class_for
from slimformer.files import write_text, writing
from slimformer.plugins import load_file
from slimformer.supernet.network import SuperNet
from slimformer.supernet.outputs import Batch
from slimformer.supernet.topology import Topology, UnitGroup, indivisible_axes

LONGEST_TRACE = 62
"""Windows of the attention up to this many tokens are traced beyond; longer ones are named among what was not proven."""

TRACED = 2, 6
"""Examples, and tokens in each, with which an unknown model is traced."""

Say = Callable[[str], None]


@dataclass(frozen=True)
class Request:
    """What to look at.

    checkpoint: a hub name, a folder, or "package:DISTRIBUTION/FOLDER". length: tokens in an example, for FLOPs.
    check: run the laws. trace: propose a topology even if a backbone describes the model.
    write: the plugin file to write with a proposal, None for none. options: of the backbone, for example {"hidden": True}.
    """

    checkpoint: str
    length: int = 128
    check: bool = False
    trace: bool = False
    write: Path | None = None
    options: Mapping[str, Any] = field(default_factory=dict)


def inspect_checkpoint(request: Request, say: Say) -> dict[str, Any]:
    """A model's topology, and the costs of its extremes; from its configuration alone unless the laws are checked.

    Where no backbone describes the model, one is proposed from a trace of the model with random weights.
    Raises: TopologyError where a law is broken, or nothing could be proven elastic.
    """
    source = checkpoints.resolve(request.checkpoint)
    model = _skeleton(source)
    _check_inputs(model)
    proposed: dict[str, Any] = {}
    if request.trace or request.write is not None or not backbones_for(model):
        backbone, proposed = _propose(source, request.write, say)
    else:
        backbone = _with_options(backbone_for(model), request.options)
    found = describe(model, backbone, request.length)
    if proposed:
        found["proposal"] = proposed
    if request.check:
        found["laws"] = _check(source, backbone, say)
    return found


def _check_inputs(model: nn.Module) -> None:
    """Raises: WorkloadError for a model whose examples are several texts each, as costs are stated for one."""
    if type(model).__name__.endswith("ForMultipleChoice"):
        raise WorkloadError(
            f"{type(model).__name__} reads several choices in each example, for which no costs are counted: "
            "inspect the checkpoint's body, or propose a topology in Python, with slimformer.discovery.propose(model, batch)"
        )


def _with_options(backbone: Backbone, options: Mapping[str, Any]) -> Backbone:
    """Raises: TopologyError for an option that the backbone does not have, or a value of another type."""
    family = family_of(backbone)
    known = {option.name: type(getattr(family, option.name)) for option in fields(family)}  # type: ignore[arg-type]
    for name, value in options.items():
        if name not in known or type(value) is not known[name]:
            offers = ", ".join(f"{option} ({kind.__name__})" for option, kind in known.items()) or "none"
            raise TopologyError(f"backbone {BACKBONES.name_of(family)!r} has no option {name}={value!r}; its options: {offers}")
    changed: Backbone = replace(family, **options)  # type: ignore[type-var]
    return changed if family is backbone else SlimBackbone(changed)


def describe(model: nn.Module, backbone: Backbone, length: int) -> dict[str, Any]:
    """A model's axes, groups and stacks, and what its extremes cost; its weights are not read."""
    topology = backbone.topology(model)
    supernet = SuperNet(model, topology)
    space = _widest_space(topology)
    pricers = counted_pricers(supernet, backbone, Workload(1, length))
    whole = indivisible_axes(topology)
    return {
        "class": type(model).__name__,
        "backbone": BACKBONES.name_of(family_of(backbone)),
        "axes": _axes(topology, model, pricers),
        **({"stays whole": whole} if whole else {}),
        "length": length,
        "units": {cost: COSTS.build(cost).unit for cost in pricers},
        "extremes": [
            {"name": point.name, "costs": {cost: price(point.spec) for cost, price in pricers.items()}}
            for point in (space.largest(), space.smallest())
        ],
        "groups": {
            g.name: {"axis": g.axis, "units": g.num_units, "slices": [s.parameter for s in g.slices]} for g in topology.groups
        },
        "patterns": _patterns(topology),
        "stacks": {s.name: {"axis": s.axis, "path": s.path, "blocks": s.num_blocks} for s in topology.stacks},
    }


def _skeleton(source: str) -> Any:
    """The model that a checkpoint describes, on the meta device: shapes without weights."""
    cls, config = _class_of(source)
    try:
        with torch.device("meta"):
            return cls(config).eval()
    except Exception as error:  # a configuration's values may contradict each other in ways of every kind
        raise CheckpointError(f"{source} describes no {cls.__name__}: {first_line(error)}") from error


def _class_of(source: str) -> tuple[Any, Any]:
    """A checkpoint's model class and its configuration."""
    import transformers

    try:
        config = transformers.AutoConfig.from_pretrained(source, trust_remote_code=False)
        return class_for(config), config
    except Exception as error:  # configurations check their values by errors of their own
        raise CheckpointError(f"{source} describes no transformers model: {first_line(error)}") from error


def _propose(source: str, write: Path | None, say: Say) -> tuple[Backbone, dict[str, Any]]:
    """A backbone made from a trace of a model, by way of the plugin file that says it."""
    cls, config = _class_of(source)
    model = cls(config).eval()
    batch = example_inputs(model)
    proposal = propose(model, batch, say)
    known = BACKBONES.names()
    name = backbone_name(model)
    name = f"{name}_traced" if name in known else name
    backbone = plugin_backbone(model, batch, proposal, name, write)
    refused = [{"module": refusal.module, "reason": refusal.reason} for refusal in proposal.refusals]
    return backbone, {"refused": refused, "plugin": str(write) if write is not None else ""}


def plugin_backbone(model: nn.Module, batch: Batch, proposal: Proposal, name: str, write: Path | None) -> Backbone:
    """The backbone that a proposal's plugin file registers; the file is kept as `write`.

    Raises: TopologyError where the file does not give the proposed topology, which is never kept then.
    """
    text = plugin_source(model, batch, proposal, name)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / (write.name if write is not None else f"{name}.py")
        file.write_text(text, encoding="utf-8")
        load_file(file)
    backbone: Backbone = BACKBONES.build(name)
    if _canonical(backbone.topology(model)) != _canonical(proposal.topology):
        raise TopologyError(f"no plugin file can say the topology that was found in {type(model).__name__}")
    with torch.no_grad():
        model(**backbone.example(model, *TRACED))
    if write is not None:
        with writing(write):
            write_text(write, text)
    return backbone


def _canonical(topology: Topology) -> Any:
    """A topology without the order in which a group names its slices and attributes."""

    def plain(group: UnitGroup) -> Any:
        return group.name, group.axis, group.num_units, frozenset(group.slices), frozenset(group.attributes), group.config

    return frozenset(map(plain, topology.groups)), topology.stacks


def traced_length(model: nn.Module) -> int:
    """The number of tokens of a trace: more than each window of the attention has, as far as 64 tokens show it."""
    windows = [v for n, v in nested_fields(model).items() if "window" in n and type(v) is int and v < LONGEST_TRACE]
    return max([TRACED[1], *(window + 2 for window in windows)])


def example_inputs(model: Any) -> Batch:
    """Random inputs for a transformers model that reads token ids or images, by the names of its forward's arguments.

    Raises: WorkloadError for a model that reads something else.
    """
    import inspect

    names = inspect.signature(model.forward).parameters
    generator = torch.Generator().manual_seed(0)
    if "input_ids" in names:
        shape = TRACED[0], traced_length(model)
        ids = [torch.randint(3, model.config.vocab_size, shape, generator=generator) for _ in range(2)]
        batch = {"input_ids": ids[0]}
        if "attention_mask" in names:
            batch["attention_mask"] = torch.ones(shape, dtype=torch.long)
        if "token_type_ids" in names and getattr(model.config, "type_vocab_size", 0) > 1:
            batch["token_type_ids"] = ids[0] % 2
        if "decoder_input_ids" in names:
            batch["decoder_input_ids"] = ids[1]
        return batch
    if "pixel_values" in names:
        size = model.config.image_size
        height, width = size if isinstance(size, list | tuple) else (size, size)
        pixels = (TRACED[0], getattr(model.config, "num_channels", 3), height, width)
        return {"pixel_values": torch.randn(pixels, generator=generator)}
    raise WorkloadError(
        f"inputs for {type(model).__name__} cannot be guessed, as it reads neither input_ids nor pixel_values: "
        "propose a topology in Python, with slimformer.propose(model, batch)"
    )


def _check(source: str, backbone: Backbone, say: Say) -> dict[str, Any]:
    """Run the laws on a checkpoint's own weights, or on random ones where it has none.

    Raises: TopologyError naming the law that is broken.
    """
    cls, config = _class_of(source)
    try:
        model, report = cls.from_pretrained(source, output_loading_info=True)
        check_complete({**report, "unexpected_keys": ()})
        weights = "the checkpoint's"
    except ExportError as error:
        raise CheckpointError(f"{source}: {error}") from error
    except OSError:
        model, weights = cls(config), "random"
    except Exception as error:  # safetensors, pickle and torch each have their own
        raise CheckpointError(f"cannot load the weights in {source}: {first_line(error)}") from error
    if getattr(model.config, "use_cache", False):
        model.config.use_cache = False
    started = time.monotonic()
    case = testing.Case.of(backbone, model.float())
    for check in testing.LAWS:
        say(f"checking {(check.__doc__ or '').partition(chr(10))[0]}")
        try:
            check(case)
        except AssertionError as error:
            raise TopologyError(str(error).partition("\n")[0]) from error
    return {"held": len(testing.LAWS), "specs": len(case.specs), "weights": weights, "seconds": time.monotonic() - started}


def _widest_space(topology: Topology) -> Space:
    """A space of the topology's own axes from a quarter (blocks: half) to everything."""
    ratios = {group.axis: (1.0, 0.25) for group in topology.groups} | {stack.axis: (1.0, 0.5) for stack in topology.stacks}

    def evenly(num_blocks: int, ratio: float) -> tuple[int, ...]:
        depth = count(num_blocks, ratio)
        return tuple((i + 1) * num_blocks // depth - 1 for i in range(depth))

    return Space(topology, tuple(Axis(name, choices) for name, choices in ratios.items()), evenly)


def _axes(topology: Topology, model: nn.Module, pricers: dict[str, Any]) -> list[dict[str, Any]]:
    """For each axis, and for all of them together, which share of the parameters they touch and what can fall away."""
    sizes = {name: p.numel() for name, p in model.named_parameters()}
    total = sum(sizes.values())
    rows = []
    for axis, members in [*((axis, (axis,)) for axis in topology.axes), ("all", topology.axes)]:
        groups = [group for group in topology.groups if group.axis in members]
        stacks = [stack for stack in topology.stacks if stack.axis in members]
        covered = {part.parameter for group in groups for part in group.slices}
        covered |= {name for name in sizes for stack in stacks if name.startswith(f"{stack.path}.")}
        units = sorted({group.num_units for group in groups} | {stack.num_blocks for stack in stacks})
        share = sum(sizes[name] for name in covered if name in sizes) / total
        least = topology.spec({group.name: group.least for group in groups}, {stack.name: (0,) for stack in stacks})
        elastic = {cost: 1 - price(least) / price(topology.full) for cost, price in pricers.items()}
        rows.append({
            "axis": axis, "groups": len(groups) + len(stacks), "units": ", ".join(map(str, units)), "share": share,
            "elastic": elastic,
        })  # fmt: skip
    return rows


def _patterns(topology: Topology) -> list[dict[str, Any]]:
    """The groups, and the parameters that they cover, with a star for the numbers in which they differ."""
    rows: dict[tuple[str, str, int, tuple[str, ...]], int] = {}
    for group in topology.groups:
        parts = [f"{part.parameter}[{', '.join([':'] * part.dim + [_extent(group, part)])}]" for part in group.slices]
        key = (_starred(group.name), group.axis, group.num_units, tuple(dict.fromkeys(map(_starred, parts))))
        rows[key] = rows.get(key, 0) + 1
    return [
        {"name": name, "axis": axis, "units": units, "slices": list(parts), "groups": number}
        for (name, axis, units, parts), number in rows.items()
    ]


def _extent(group: UnitGroup, part: Any) -> str:
    return f"{part.start}:{part.start + group.num_units * part.unit_size}:{part.unit_size}"


def _starred(name: str) -> str:
    return re.sub(r"(?<=\.)\d+(?=\.)", "*", name)
