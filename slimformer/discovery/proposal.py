"""From units found in blocks to a topology whose every part has passed the laws."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Generator, nn

from slimformer import testing
from slimformer.backbones.layers import is_linear
from slimformer.discovery.config_search import depth_field, list_fields, unseen_windows
from slimformer.discovery.patterns import Described, Pattern, analyse, config_field, group_of, reason_of
from slimformer.discovery.source_check import is_identifier
from slimformer.errors import TopologyError
from slimformer.supernet.outputs import Batch
from slimformer.supernet.topology import BlockStack, Topology

Advance = Callable[[str], None]


@dataclass(frozen=True)
class Stack:
    """A list of alike modules of a model, and the patterns of each.

    is_depth: whether blocks may be dropped.
    """

    block_stack: BlockStack
    is_depth: bool
    patterns: tuple[tuple[Pattern, ...], ...]


@dataclass(frozen=True)
class Refusal:
    """A module that stays whole, and why."""

    module: str
    reason: str


@dataclass(frozen=True)
class Proposal:
    """A topology that passed all laws on the model it was found in, and what was refused."""

    topology: Topology
    stacks: tuple[Stack, ...]
    refusals: tuple[Refusal, ...]


def propose(model: nn.Module, batch: Batch, advance: Advance = lambda step: None, tolerance: float | None = None) -> Proposal:
    """Find unit groups and block stacks of any model by running it, and keep what passes the laws.

    Units are found by poisoning: see `slimformer.proposal.units`. Each group is checked in its block, each stack in the model,
    and at last the whole topology with `slimformer.testing.check_backbone`'s checks. The model is left as it was.

    What did not run in the trace is not proven, and is named among the refusals.

    batch: the keyword arguments of one call, two examples or more, without padding; every argument that the model offers, and
        more tokens than the windows of its attention.
    tolerance: the largest difference that counts as float error, that of the model's number type unless it is given.
    Raises: TopologyError where nothing could be proven elastic, or not the whole of it together.
    """
    if tolerance is None:
        tolerance = testing.TOLERANCES.get(next(model.parameters()).dtype, testing.TOLERANCES[torch.float32])
    model = _scattered(model)
    refusals: dict[str, str] = unseen_windows(model, batch) | _unused(model, batch)
    stacks: list[Stack] = []
    for found in _containers(model, batch):
        advance(f"tracing {found.path or type(model).__name__}")
        is_depth = _is_depth(model, found, batch, refusals, tolerance)
        stacks.append(Stack(found, is_depth, _patterns(model, found, batch, refusals, tolerance)))
    advance("checking the laws on the whole")
    topology = _topology(model, stacks)
    if not topology.groups and not topology.stacks:
        reasons = "; ".join(f"{module}: {reason}" for module, reason in refusals.items())
        raise TopologyError(
            f"nothing in {type(model).__name__} could be proven elastic: {reasons or 'it has no linear layers'}"
        )
    _check_whole(model, topology, batch, tolerance)
    return Proposal(topology, tuple(stacks), tuple(Refusal(*pair) for pair in refusals.items()))


def _scattered(model: nn.Module) -> nn.Module:
    """A copy without a cache whose weights are far enough from zero that each unit matters; in eval mode."""
    model = copy.deepcopy(model).eval().requires_grad_()
    config: Any = getattr(model, "config", None)
    if getattr(config, "use_cache", False):
        config.use_cache = False
    generator = Generator().manual_seed(0)
    for parameter in model.parameters():
        noise = torch.randn(parameter.shape, generator=generator).to(parameter.dtype)
        fan = parameter.shape[-1] if parameter.dim() > 1 else 1
        parameter.data = noise * (2 / fan) ** 0.5 if parameter.dim() > 1 else parameter.data + 0.1 * noise
    return model


def _unused(model: nn.Module, batch: Batch) -> dict[str, str]:
    """The outermost modules with weights that the trace does not use, each with the reason to refuse it."""
    model.zero_grad()
    outputs = testing.tensors_of(model(**batch))
    torch.stack([tensor.float().sum() for tensor in outputs if tensor.requires_grad]).sum().backward()
    names = {module_name for module_name, _ in model.named_modules()}
    idle = [n for n in sorted(names) if n and any(True for _ in model.get_submodule(n).parameters())
            and all(p.grad is None for p in model.get_submodule(n).parameters())]  # fmt: skip
    model.zero_grad()
    outermost = [name for name in idle if not any(name.startswith(f"{other}.") for other in idle)]
    return dict.fromkeys(outermost, "it did not run in the trace, so that nothing is proven of it")


def _containers(model: nn.Module, batch: Batch) -> list[BlockStack]:
    """The outermost lists of modules of one class that run once each, in order; the whole model where there is none."""
    order: list[nn.Module] = []
    with ExitStack() as hooks, torch.no_grad():
        for module in model.modules():
            hooks.callback(module.register_forward_pre_hook(lambda module, _: order.append(module)).remove)
        model(**batch)
    found: list[BlockStack] = []
    for name, module in model.named_modules():
        if isinstance(module, nn.ModuleList | nn.Sequential) and not any(name.startswith(f"{s.path}.") for s in found):
            blocks = list(module)
            ran = [other for other in order if any(other is block for block in blocks)]
            if len(blocks) > 1 and len({type(block) for block in blocks}) == 1 and ran == blocks and not is_linear(blocks[0]):
                found.append(_stack(model, name, blocks))
    names = [_short(stack.path) for stack in found]
    if not found:
        return [BlockStack("model", "depth", "", 0)]
    return [replace(s, name=n if names.count(n) == 1 else s.path) for s, n in zip(found, names, strict=True)]


def _short(path: str) -> str:
    return next((word for word in ("encoder", "decoder") if word in path), "blocks")


def _stack(model: nn.Module, path: str, blocks: Sequence[nn.Module]) -> BlockStack:
    indices = [{k for part in block.modules() for k, v in vars(part).items() if v is n} for n, block in enumerate(blocks)]
    index = sorted(name for name in set.intersection(*indices) if not name.startswith("_") and is_identifier(name))[:1]
    return BlockStack(
        "", "depth", path, len(blocks), config_field=depth_field(model, path, len(blocks)),
        config_lists=list_fields(model, path, len(blocks)), index_attribute=next(iter(index), "layer_idx"),
    )  # fmt: skip


def _is_depth(model: nn.Module, stack: BlockStack, batch: Batch, refusals: dict[str, str], tolerance: float) -> bool:
    """Whether any of the blocks may be dropped: laws 3 and 8 on the model."""
    if not stack.path:
        return False
    topology, every = Topology((), (stack,)), range(stack.num_blocks)
    try:
        for kept in dict.fromkeys([(0,), tuple(every[1:]), tuple(every[1::2]), tuple(every[::2])]):
            specs = (topology.full, topology.spec({}, {stack.name: kept}))
            case = testing.Case(Described(topology, batch), model, topology, batch, specs, tolerance, 0)
            for check in (testing.check_masking, testing.check_specs_differ):  # a case for each, as it keeps its extractions
                check(case)
    except (AssertionError, TopologyError) as error:
        refusals[stack.path] = f"its blocks cannot be dropped: {reason_of(error)}"
        return False
    return True


def _patterns(
    model: nn.Module, stack: BlockStack, batch: Batch, refusals: dict[str, str], tolerance: float
) -> tuple[tuple[Pattern, ...], ...]:
    """The patterns of each block. Blocks whose modules and parameters are alike are analysed once."""
    known: dict[Any, tuple[Pattern, ...]] = {}
    blocks = dict(model.get_submodule(stack.path).named_children()) if stack.path else {"": model}
    shapes = {index: _shape(block) for index, block in blocks.items()}
    for index, block in blocks.items():
        if shapes[index] not in known:
            alike = [other for other, shape in shapes.items() if shape == shapes[index]]
            place = "*" if len(alike) == len(blocks) else ",".join(alike)
            prefix = f"{stack.path}.{place}." if stack.path else ""
            known[shapes[index]] = analyse(model, block, prefix, batch, refusals, tolerance)
    return tuple(known[shape] for shape in shapes.values())


def _shape(block: nn.Module) -> Any:
    modules = tuple((name, type(module)) for name, module in block.named_modules())
    return modules, tuple((name, tuple(parameter.shape)) for name, parameter in block.named_parameters())


def _topology(model: nn.Module, stacks: Sequence[Stack]) -> Topology:
    groups = []
    for stack in stacks:
        for index, patterns in enumerate(stack.patterns):
            path = f"{stack.block_stack.path}.{index}" if stack.block_stack.path else ""
            for pattern in patterns:
                name = f"{stack.block_stack.name}.{index}.{pattern.name}" if path else pattern.name
                field = config_field(model, pattern)
                groups.append(group_of(model.get_submodule(path), pattern, f"{path}." if path else "", name, field))
    return Topology(tuple(groups), tuple(stack.block_stack for stack in stacks if stack.is_depth))


def _check_whole(model: nn.Module, topology: Topology, batch: Batch, tolerance: float) -> None:
    """All laws on the model as it was given.

    Raises: TopologyError: parts that each kept the laws may still break them together.
    """
    described = Described(topology, batch)
    uniform = testing.uniform_specs(topology)
    specs = (*uniform[1:2], uniform[-1], *testing.random_specs(topology, 3, Generator().manual_seed(0)))
    case = testing.Case(described, model, topology, batch, tuple(dict.fromkeys(specs)), tolerance, 0)
    for check in testing.LAWS:
        try:
            check(case)
        except Exception as error:  # a stranger's code: anything can happen
            raise TopologyError(f"the parts found in {type(model).__name__} do not fit together: {reason_of(error)}") from error
