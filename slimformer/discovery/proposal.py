"""From units found in blocks to a topology whose every part has passed the laws."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from operator import attrgetter
from typing import Any, Literal

import torch
from torch import Generator, nn

from slimformer import testing
from slimformer.backbones.layers import is_linear
from slimformer.discovery.nan_tracing import Recording, Tracer
from slimformer.discovery.config_search import depth_field, fields_of, list_fields, unseen_windows
from slimformer.discovery.source_check import is_identifier
from slimformer.discovery.units import Candidate, Tie, find_units
from slimformer.errors import TopologyError
from slimformer.supernet.network import SuperNet
from slimformer.supernet.outputs import Batch
from slimformer.supernet.topology import Attribute, BlockStack, Slice, Topology, UnitGroup

TRIES = 200
"""So many sets of attributes are tried for a group of units."""

Advance = Callable[[str], None]


@dataclass(frozen=True)
class Pattern:
    """A unit group as it is in one block; names of parameters and modules begin in the block.

    kind: "heads" where a linear layer reads several columns of a unit, "ffn" where it reads one.
    counts: the numbers that modules keep for it, by module.
    """

    name: str
    kind: Literal["heads", "ffn"]
    candidate: Candidate
    counts: Mapping[str, tuple[str, ...]]

    def __hash__(self) -> int:
        return hash((self.name, self.candidate.ties))


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


@dataclass(frozen=True)
class Described:
    """A backbone for one model: what was found in it."""

    found: Topology
    batch: Batch

    def describes(self, model: nn.Module) -> bool:
        return True

    def topology(self, model: nn.Module) -> Topology:
        return self.found

    def example(self, model: nn.Module, batch_size: int, length: int) -> Batch:
        return self.batch


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
        refusals[stack.path] = f"its blocks cannot be dropped: {_reason(error)}"
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
            known[shapes[index]] = _analyse(model, block, prefix, batch, refusals, tolerance)
    return tuple(known[shape] for shape in shapes.values())


def _shape(block: nn.Module) -> Any:
    modules = tuple((name, type(module)) for name, module in block.named_modules())
    return modules, tuple((name, tuple(parameter.shape)) for name, parameter in block.named_parameters())


def _analyse(
    model: nn.Module, block: nn.Module, prefix: str, batch: Batch, refusals: dict[str, str], tolerance: float
) -> tuple[Pattern, ...]:
    recording = _record(model, block, batch)
    try:
        findings = find_units(Tracer(recording))
    except ValueError as error:
        refusals[prefix.rstrip(".") or type(model).__name__] = str(error)
        return ()
    reasons = dict(findings.reasons)
    patterns: list[Pattern] = []
    for candidate in findings.candidates:
        proven = _prove(recording, candidate, tolerance)
        if isinstance(proven, Pattern):
            patterns.append(proven)
        else:
            reasons |= dict.fromkeys(candidate.modules, proven)
    patterns = _named(patterns)
    covered = {module for pattern in patterns for module in pattern.candidate.modules}
    for name, module in block.named_modules():
        matrices = [p for p in module.parameters(recurse=False) if p.dim() > 1]
        if matrices and name not in covered:
            refusals[f"{prefix}{name}"] = reasons.get(name, "no linear layer reads what it writes as a module of its own")
    return tuple(patterns)


def _record(model: nn.Module, block: nn.Module, batch: Batch) -> Recording:
    calls: list[tuple[Any, Any]] = []

    def note(module: nn.Module, args: Any, kwargs: Any) -> None:
        calls.append((args, kwargs))

    handle = block.register_forward_pre_hook(note, with_kwargs=True)
    try:
        with torch.no_grad():
            model(**batch)
    finally:
        handle.remove()
    return Recording(block, *calls[0])


def _prove(recording: Recording, candidate: Candidate, tolerance: float) -> Pattern | str:
    """The candidate with the fewest attributes that must follow its number of units, or the law that it breaks.

    A group is proven in its block: rewiring it changes no output, and for several sizes slicing equals masking.
    """
    kind: Literal["heads", "ffn"] = "heads" if max(candidate.readers.values()) > 1 else "ffn"
    plain = Pattern("", kind, candidate, {})
    reason = ""
    for counts in itertools.islice(_counts(recording.block, candidate), TRIES):
        pattern = replace(plain, counts=counts)
        try:
            _check_pattern(recording, pattern, tolerance)
        except (AssertionError, TopologyError) as error:
            reason = reason or _reason(error)
        else:
            return _with_head_counts(recording, pattern, tolerance)
    return f"its {candidate.number} units break {reason}"


def _with_head_counts(recording: Recording, pattern: Pattern, tolerance: float) -> Pattern:
    """The pattern with every other count of heads that may follow it, for code that this forward pass did not take."""
    for module, key in _places(recording.block, pattern.candidate):
        known = pattern.counts.get(module, ())
        if "heads" in key and "." not in key and key not in known:
            fuller = replace(pattern, counts={**pattern.counts, module: (*known, key)})
            try:
                _check_pattern(recording, fuller, tolerance)
            except (AssertionError, TopologyError):
                continue
            pattern = fuller
    return pattern


def _check_pattern(recording: Recording, pattern: Pattern, tolerance: float) -> None:
    group = group_of(recording.block, pattern, "", "units")
    inner = replace(
        group,
        slices=tuple(replace(part, parameter=f"block.{part.parameter}") for part in group.slices),
        attributes=tuple(replace(a, module=f"block.{a.module}".rstrip(".")) for a in group.attributes),
    )
    topology, number = Topology((inner,), ()), group.num_units
    sizes = sorted({1, max(1, number // 2), number - 1})
    specs = tuple(topology.spec({group.name: size}, {}) for size in (*sizes, number))
    case = testing.Case(Described(topology, {}), recording, topology, {}, specs, tolerance, 0)
    SuperNet(recording, topology)
    for check in (testing.check_masking, testing.check_rewiring):
        check(case)
    apart = tuple(spec for spec in specs if spec.units[group.name] != number - 1 or number == 2)
    testing.check_specs_differ(replace(case, specs=apart))  # one unit alone may be silent on this batch, as a ReLU's neuron


def _counts(block: nn.Module, candidate: Candidate) -> Iterator[dict[str, tuple[str, ...]]]:
    """Sets of integer attributes that could follow the number of units, the smallest sets first."""
    places = _places(block, candidate)
    for size in range(4):
        for chosen in itertools.combinations(places, size):
            yield {name: tuple(key for owner, key in chosen if owner == name) for name, _ in chosen}


def _places(block: nn.Module, candidate: Candidate) -> list[tuple[str, str]]:
    """The integer attributes, by module and name, that are multiples of the number of units."""
    places: list[tuple[str, str]] = []
    owners = {module for name in candidate.modules for module in _with_parents(name)}
    for name in sorted(owners):
        module = block.get_submodule(name)
        own = {"in_features", "out_features"} if isinstance(module, nn.Linear) else set()
        for key, value in vars(module).items():
            if type(value) is int and value > 0 and value % candidate.number == 0 and key not in own:
                places.append((name, key))
        fields = fields_of(module)
        heads = [key for key, value in fields.items() if "heads" in key and type(value) is int and value]
        places += [(name, f"config.{key}") for key in heads if fields[key] % candidate.number == 0]
    return places


def _with_parents(name: str) -> list[str]:
    words = name.split(".")
    return [".".join(words[:depth]) for depth in range(len(words) + 1)]


def _reason(error: Exception) -> str:
    """The first line of what was wrong, without the spec that a law names."""
    text = str(error).partition("\n")[0]
    law, middle, rest = text.partition(" is broken for ")
    return f"{law}: {rest.partition('}}')[2].lstrip(': ') or rest}" if middle else text


def _named(patterns: Sequence[Pattern]) -> list[Pattern]:
    kinds = [pattern.kind for pattern in patterns]
    named = []
    for pattern in patterns:
        name: str = pattern.kind
        if kinds.count(pattern.kind) > 1:
            name = common_parent(pattern.candidate.modules) or next(iter(pattern.candidate.readers))
        named.append(replace(pattern, name=name))
    return named


def common_parent(modules: Sequence[str]) -> str:
    """The longest path that the names of modules share, "" where they share none."""
    paths = [module.split(".") for module in modules]
    shared = itertools.takewhile(lambda words: len(set(words)) == 1, zip(*paths, strict=False))
    return ".".join(words[0] for words in shared)


def group_of(block: nn.Module, pattern: Pattern, prefix: str, name: str, config_field: str = "") -> UnitGroup:
    """A pattern as the unit group of one block. prefix: what the names of the block's parameters begin with."""
    candidate = pattern.candidate
    slices = [part for tie in candidate.ties for part in _slices(block, tie, prefix)]
    for reader, size in candidate.readers.items():
        dim = 1 if isinstance(block.get_submodule(reader), nn.Linear) else 0
        slices.append(Slice(f"{prefix}{reader}.weight", dim, size, 0, "reads"))
    attributes = tuple(
        Attribute(f"{prefix}{module}".rstrip("."), key, attrgetter(key)(block.get_submodule(module)) // candidate.number)
        for module, keys in pattern.counts.items()
        for key in keys
    )
    return UnitGroup(name, f"width.{pattern.kind}", candidate.number, tuple(slices), attributes, config_field)


def _slices(block: nn.Module, tie: Tie, prefix: str) -> Iterator[Slice]:
    owner, _, leaf = tie.source.name.rpartition(".")
    is_layer = is_linear(block.get_submodule(owner))
    role: Any = ("writes" if leaf == "weight" else "") if is_layer else "neither"
    for part in tie.parts:
        yield Slice(f"{prefix}{tie.source.name}", tie.source.dim, part.unit_size, part.start, role)


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


def config_field(model: nn.Module, pattern: Pattern) -> str:
    """The configuration's name for the number of neurons, "" where it has none."""
    if pattern.kind != "ffn":
        return ""
    words = ("ffn", "intermediate", "inner", "mlp", "hidden_dim")
    fields = fields_of(model)
    named = [n for n, value in fields.items() if value == pattern.candidate.number and any(word in n for word in words)]
    return named[0] if len(named) == 1 else ""


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
            raise TopologyError(f"the parts found in {type(model).__name__} do not fit together: {_reason(error)}") from error
