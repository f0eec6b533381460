"""A model, its super-network, specs and a batch on which the laws are checked."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from functools import cached_property
from typing import Any

import torch
from torch import Generator, Tensor, nn
from torch.utils._pytree import tree_leaves

from slimformer.axes.base import Axis, count
from slimformer.axes.space import Space
from slimformer.backbones.base import Backbone
from slimformer.supernet.network import SuperNet
from slimformer.supernet.outputs import Batch
from slimformer.supernet.spec import SubnetSpec
from slimformer.supernet.topology import Topology

WIDTHS = (1.0, 0.5, 0.25)

DEPTHS = (1.0, 0.5)

LENGTH = 12

NEW_TOKENS = 8

TOLERANCES = {torch.float64: 1e-11, torch.float32: 1e-4, torch.bfloat16: 0.03, torch.float16: 0.02}
"""What counts as float error by the model's number type, as a fraction of the largest expected number."""


@dataclass(frozen=True)
class Case:
    """One backbone on one model: what each check gets.

    model: a copy, in eval mode and all of it trainable, that no super-network ever holds.
    tolerance: the largest difference that counts as float error, as a fraction of the largest expected number.
    """

    backbone: Backbone
    model: nn.Module
    topology: Topology
    batch: Batch
    specs: tuple[SubnetSpec, ...]
    tolerance: float
    seed: int
    _live: dict[SubnetSpec, list[Tensor]] = field(default_factory=dict, init=False, repr=False, compare=False)
    _cut: dict[SubnetSpec, nn.Module] = field(default_factory=dict, init=False, repr=False, compare=False)

    @staticmethod
    def of(
        backbone: Backbone,
        model: nn.Module,
        *,
        specs: Sequence[SubnetSpec] | None = None,
        tolerance: float | None = None,
        seed: int = 0,
    ) -> Case:
        """A case on random inputs; without `specs`, on the uniform ones and on five random per-layer ones.

        tolerance: as in `TOLERANCES` unless it is given.
        """
        model = copy.deepcopy(model).eval().requires_grad_()
        topology = backbone.topology(model)
        generator = Generator().manual_seed(seed)
        chosen = specs or (*uniform_specs(topology), *random_specs(topology, 5, generator))
        batch = random_batch(backbone, model, generator)
        allowed = TOLERANCES[next(model.parameters()).dtype] if tolerance is None else tolerance
        return Case(backbone, model, topology, batch, tuple(dict.fromkeys(chosen)), allowed, seed)

    def new_supernet(self) -> SuperNet:
        return SuperNet(copy.deepcopy(self.model), self.topology)

    @property
    def supernet(self) -> SuperNet:
        """One super-network for the checks that change no weight, so that each sub-network is built and run once."""
        return self._started[0]

    @property
    def start(self) -> ModuleState:
        """What that super-network was before any sub-network of it was built."""
        return self._started[1]

    @cached_property
    def _started(self) -> tuple[SuperNet, ModuleState]:
        supernet = self.new_supernet()
        return supernet, ModuleState.of(supernet)

    def run(self, model: nn.Module) -> list[Tensor]:
        with torch.no_grad():
            return tensors_of(model(**self.batch))

    def live(self, spec: SubnetSpec) -> list[Tensor]:
        """What a live sub-network computes."""
        if spec not in self._live:
            self._live[spec] = self.run(self.supernet.subnet(spec))
        return self._live[spec]

    def extraction(self, spec: SubnetSpec) -> nn.Module:
        if spec not in self._cut:
            self._cut[spec] = self.supernet.extract(spec)
        return self._cut[spec]


def uniform_specs(topology: Topology) -> list[SubnetSpec]:
    """All widths at one ratio and all depths at one ratio, each combination; then each axis alone at its smallest ratio."""
    space = law_space(topology, WIDTHS, DEPTHS)
    deep = {stack.axis for stack in topology.stacks}
    together = [{a: d if a in deep else w for a in topology.axes} for d in DEPTHS for w in WIDTHS]
    alone = [{axis.name: axis.ratios[-1]} for axis in space.axes]
    return list(dict.fromkeys(space.spec(choice) for choice in together + alone))


def random_specs(topology: Topology, count: int, generator: Generator) -> list[SubnetSpec]:
    """Per-layer specs: any number of units from 1 in each group, any blocks of each stack."""
    space = law_space(topology, (1.0, 1e-9), (1.0, 1e-9))
    return [space.random_spec(generator) for _ in range(count)]


def random_batch(backbone: Backbone, model: Any, generator: Generator) -> Batch:
    """The backbone's example with random contents; where it has an attention mask, the last example is padded."""
    batch = dict(backbone.example(model, 3, LENGTH))
    for name, tensor in batch.items():
        if name.endswith("ids"):
            batch[name] = torch.randint(_vocabulary(model), tensor.shape, generator=generator)
        elif name == "attention_mask":
            batch[name] = tensor.clone()
            batch[name][-1, LENGTH // 2 :] = 0
        elif tensor.is_floating_point():
            batch[name] = torch.randn(tensor.shape, generator=generator).to(tensor.dtype)
    return batch


def _vocabulary(model: Any) -> int:
    """How many token ids a model knows; one without a configuration, at least as many as its smallest table has rows."""
    if hasattr(model, "config"):
        return int(model.config.get_text_config().vocab_size)
    return min(module.num_embeddings for module in model.modules() if isinstance(module, nn.Embedding))


def tensors_of(outputs: Any) -> list[Tensor]:
    """The floating-point tensors in whatever a model returns."""
    return [leaf for leaf in tree_leaves(outputs) if isinstance(leaf, Tensor) and leaf.is_floating_point()]


def law_space(topology: Topology, widths: tuple[float, ...], depths: tuple[float, ...]) -> Space:
    deep = {stack.axis for stack in topology.stacks}
    axes = tuple(Axis(name, depths if name in deep else widths) for name in topology.axes)
    return Space(topology, axes, lambda num_blocks, ratio: tuple(range(count(num_blocks, ratio))))


@dataclass(frozen=True)
class ModuleState:
    """What building or running sub-networks must not change: the state dict, and what each module holds besides."""

    weights: Mapping[str, Tensor]
    held: Mapping[str, Any]

    @staticmethod
    def of(supernet: SuperNet) -> ModuleState:
        return ModuleState({name: tensor.clone() for name, tensor in supernet.state_dict().items()}, _held(supernet.model))


def _held(model: nn.Module) -> dict[str, Any]:
    """What each module holds besides its tensors and its parts, in a form that compares by value."""
    apart = ("_parameters", "_buffers", "_modules")
    return {n: _plain({k: v for k, v in vars(m).items() if k not in apart}) for n, m in model.named_modules()}


def _plain(value: Any, levels: int = 4) -> Any:
    """A copy that later changes of the value cannot reach; what lies deeper stands by its identity."""
    if isinstance(value, str | int | float | Enum | None):
        return value
    if isinstance(value, Mapping) and levels:
        return [(str(key), _plain(item, levels - 1)) for key, item in value.items()]
    if isinstance(value, list | tuple | set) and levels:
        return [_plain(item, levels - 1) for item in value]
    return _plain(vars(value), levels - 1) if hasattr(value, "__dict__") and levels else id(value)
