"""Peak memory of one forward pass of a sub-network: its weights and the tensors that are alive at the worst moment."""

from __future__ import annotations

import weakref
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from slimformer.backbones import Topology, UnitGroup
from slimformer.costs import COSTS, Workload
from slimformer.supernet import Batch, SubnetSpec
from slimformer_counters.fake_tensors import hollow, whole_layers, without_numbers
from slimformer_counters.parameters import parameter_count
from slimformer_counters.polynomial import OUTSIDE, Place, Polynomial
from slimformer_counters.weights import BYTES

if TYPE_CHECKING:
    from torch import nn

    from slimformer.backbones import Backbone
    from slimformer.supernet import SuperNet


@COSTS.register("memory")
@dataclass(frozen=True)
class Memory:
    """Bytes of the weights, the inputs and the intermediate tensors that are alive at the worst moment of a forward pass.

    Law: `price(net, backbone, workload)(spec)` is at least what a trace of `net.extract(spec)`, operator by operator in eager
    mode, has alive at most, and for the whole model equals it. It is above it, by a hidden state, where the worst moment is in
    the first block that remains; and where a group of one unit saves a copy.

    Predicted, not measured: from a few traces of shapes. What torch and the process themselves take, an operator's scratch
    space, and what an allocator rounds up come on top of it; a compiler may need less.

    dtype: the number type of weights and intermediate tensors.
    """

    dtype: Literal["float32", "float16", "bfloat16"] = "float32"

    unit: ClassVar[str] = "bytes of weights and live tensors"
    is_measured: ClassVar[bool] = False

    def price(self, supernet: SuperNet, backbone: Backbone, workload: Workload) -> Peak:
        topology = supernet.topology
        specs = [topology.full, *(topology.spec(units, {}) for units in _shrunk(topology))]
        whole, *fewer = (trace(supernet, spec, backbone, workload, self.dtype) for spec in specs)
        amounts = _amounts(topology, whole, fewer)
        return Peak(parameter_count(supernet, BYTES[self.dtype]), whole.inputs, _moments(whole, amounts))


Amount = Mapping[str, float]
"""Bytes as a linear function of a spec: by group the bytes of each unit (groups in dropped blocks have none)."""

ALWAYS = ""
"""Under this name, the bytes that follow no group: they stay where the block that made them is dropped, as another block
hands on a hidden state of that size."""


@dataclass(frozen=True)
class Peak:
    """The bytes of a spec: its weights, the inputs, and the most that the moments of a forward pass hold.

    Law: non-decreasing, every amount being at least 0; a maximum over blocks, hence not additive.

    moments: for each place (a block, or what lies outside) what is alive at those of its moments that can be the worst.
    """

    weights: Polynomial
    inputs: int
    moments: Mapping[Place, tuple[Amount, ...]]

    def __call__(self, spec: SubnetSpec) -> float:
        units = {**spec.units, ALWAYS: 1}
        places = [OUTSIDE, *((stack, block) for stack, blocks in spec.blocks.items() for block in blocks)]
        moments = (moment for place in places for moment in self.moments.get(place, ()))
        held = (sum(each * units.get(name, 0) for name, each in moment.items()) for moment in moments)
        return self.weights(spec) + self.inputs + max(held, default=0.0)


@dataclass
class Trace:
    """What a forward pass allocates and frees, in order.

    places, sizes: where each tensor was made, and its bytes. events: a tensor's number where it was made, `-1 - number`
    where it was freed. inputs: bytes of the inputs.
    """

    places: list[Place]
    sizes: list[int]
    events: list[int]
    inputs: int


def trace(supernet: SuperNet, spec: SubnetSpec, backbone: Backbone, workload: Workload, dtype: str = "") -> Trace:
    """Run a sub-network without numbers and note every tensor that it makes.

    Memory is alive as long as one of the tensors that share it; it is told from others by torch's number of it.
    """
    module = whole_layers(supernet, spec)
    with without_numbers():
        copied = hollow(module, dtype)
        return _run(copied, supernet.topology, spec, backbone.example(copied, workload.batch_size, workload.length))


def _run(module: nn.Module, topology: Topology, spec: SubnetSpec, inputs: Batch) -> Trace:
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_leaves

    identity = torch._C._storage_id  # type: ignore[attr-defined]
    given = {identity(tensor) for tensor in (*module.parameters(), *module.buffers(), *inputs.values())}
    found = Trace([], [], [], sum(tensor.nbytes for tensor in inputs.values()))
    here = _place_hooks_(module, topology, spec)
    numbers: dict[int, int] = {}
    sharing: dict[int, list[weakref.ref[Any]]] = {}

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            made = function(*args, **(kwargs or {}))
            self.note_what_is_gone()
            for leaf in tree_leaves(made):
                if isinstance(leaf, torch.Tensor) and identity(leaf) not in given:
                    self.note(leaf)
            return made

        def note(self, tensor: torch.Tensor) -> None:
            memory = identity(tensor)
            if memory not in numbers:
                numbers[memory] = len(found.sizes)
                sharing[memory] = []
                found.events.append(len(found.sizes))
                found.places.append(here[-1])
                found.sizes.append(tensor.nbytes)
            sharing[memory].append(weakref.ref(tensor))

        def note_what_is_gone(self) -> None:
            for memory in [memory for memory, tensors in sharing.items() if all(tensor() is None for tensor in tensors)]:
                del sharing[memory]
                found.events.append(-1 - numbers.pop(memory))

    with Watch():
        module(**inputs)
    return found


def _place_hooks_(module: nn.Module, topology: Topology, spec: SubnetSpec) -> list[Place]:
    """Hook the blocks of an extraction so that the last entry of the returned list is the place that runs now."""
    here = [OUTSIDE]
    for stack in topology.stacks:
        for number, block in enumerate(spec.blocks[stack.name]):
            part = module.get_submodule(f"{stack.path}.{number}")
            part.register_forward_pre_hook(lambda *_, place=(stack.name, block): here.append(place))
            part.register_forward_hook(lambda *_: here.pop() and None)
    return here


def _kinds(topology: Topology) -> list[list[UnitGroup]]:
    """The groups as lists of which each has at most one group of each block: a tensor's bytes tell which one they follow."""
    inside: dict[Place, list[UnitGroup]] = defaultdict(list)
    for group in topology.groups:
        inside[topology.owner.get(group.name, OUTSIDE)].append(group)
    outside = inside.pop(OUTSIDE, [])
    most = max(map(len, inside.values()), default=0)
    return [[groups[k] for groups in inside.values() if k < len(groups)] for k in range(most)] + [[g] for g in outside]


def _half(group: UnitGroup) -> int:
    return max(group.least, group.num_units // 2)


def _shrunk(topology: Topology) -> list[dict[str, int]]:
    """For each kind of group, sizes of half."""
    return [{group.name: _half(group) for group in kind} for kind in _kinds(topology)]


def _amounts(topology: Topology, whole: Trace, fewer: Sequence[Trace]) -> list[dict[str, float]]:
    """How the bytes of each tensor follow from the units; a kind whose trace makes other tensors counts as always whole."""
    found = []
    kinds = [
        (kind, one)
        for kind, one in zip(_kinds(topology), fewer, strict=True)
        if (one.places, one.events) == (whole.places, whole.events)
    ]
    for number, (place, size) in enumerate(zip(whole.places, whole.sizes, strict=True)):
        amount: dict[str, float] = {}
        for kind, one in kinds:
            for group in kind:
                saved = size - one.sizes[number]
                if saved > 0 and topology.owner.get(group.name, place) == place:
                    amount[group.name] = saved / (group.num_units - _half(group))
        amount[ALWAYS] = size - sum(each * topology.by_name[group].num_units for group, each in amount.items())
        found.append(amount)
    return found


def _moments(whole: Trace, amounts: Sequence[Amount]) -> dict[Place, tuple[Amount, ...]]:
    """What is alive after each allocation, by place, without the moments that another of the same place covers."""
    alive: set[int] = set()
    found: dict[Place, list[Amount]] = defaultdict(list)
    for event in whole.events:
        if event < 0:
            alive.remove(-1 - event)
            continue
        alive.add(event)
        moment = defaultdict[str, float](float)
        for number in alive:
            for name, each in amounts[number].items():
                moment[name] += each
        found[whole.places[event]].append(moment)
    return {place: _uncovered(moments) for place, moments in found.items()}


def _uncovered(moments: Iterable[Amount]) -> tuple[Amount, ...]:
    kept: list[Amount] = []
    for moment in sorted(moments, key=lambda amount: -sum(amount.values())):
        if not any(_covers(other, moment) for other in kept):
            kept.append(moment)
    return tuple(kept)


def _covers(one: Amount, other: Amount) -> bool:
    """Whether one is at least as large as another in any sub-network."""
    return all(one.get(name, 0.0) >= each for name, each in other.items())
