"""Find the unit groups of one block by tracing it, and prove each in its block."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from operator import attrgetter
from typing import Any, Literal

import torch
from torch import nn

from slimformer import testing
from slimformer.backbones.layers import is_linear
from slimformer.discovery.config_search import fields_of
from slimformer.discovery.nan_tracing import Recording, Tracer
from slimformer.discovery.units import Candidate, CoupledUnits, find_units
from slimformer.errors import TopologyError
from slimformer.supernet.network import SuperNet
from slimformer.supernet.outputs import Batch
from slimformer.supernet.topology import Attribute, Slice, Topology, UnitGroup

TRIES = 200
"""So many sets of attributes are tried for a group of units."""


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


def analyse(
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
            reason = reason or reason_of(error)
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


def reason_of(error: Exception) -> str:
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


def _slices(block: nn.Module, tie: CoupledUnits, prefix: str) -> Iterator[Slice]:
    owner, _, leaf = tie.source.name.rpartition(".")
    is_layer = is_linear(block.get_submodule(owner))
    role: Any = ("writes" if leaf == "weight" else "") if is_layer else "neither"
    for part in tie.parts:
        yield Slice(f"{prefix}{tie.source.name}", tie.source.dim, part.unit_size, part.start, role)


def config_field(model: nn.Module, pattern: Pattern) -> str:
    """The configuration's name for the number of neurons, "" where it has none."""
    if pattern.kind != "ffn":
        return ""
    words = ("ffn", "intermediate", "inner", "mlp", "hidden_dim")
    fields = fields_of(model)
    named = [n for n, value in fields.items() if value == pattern.candidate.number and any(word in n for word in words)]
    return named[0] if len(named) == 1 else ""
