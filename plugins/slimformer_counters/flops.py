"""Matrix-multiplication FLOPs and MACs of a sub-network, from one profile of the full-size model without its weights."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from slimformer.backbones import Topology, UnitGroup
from slimformer.costs import COSTS, Workload
from slimformer.errors import TopologyError
from slimformer_counters.fake_tensors import hollow, without_numbers
from slimformer_counters.polynomial import Polynomial, Share, polynomial

if TYPE_CHECKING:
    from torch import nn

    from slimformer.backbones import Backbone
    from slimformer.supernet import SuperNet

Scale = tuple[UnitGroup, ...]
"""The groups to whose numbers of units a count is proportional."""


@COSTS.register("flops")
@dataclass(frozen=True)
class Flops:
    """FLOPs of the matrix products (and convolutions) in one forward pass; one multiply-add is 2.

    Law: `price(net, backbone, workload)(spec)` equals what `torch.utils.flop_counter` counts on `net.extract(spec)` for the
    workload's inputs, attention included, whichever of the eager and sdpa attention the model uses.

    Embeddings, GELU, softmax, norms, biases, residual additions and dropout count 0; causal attention counts in full.
    """

    unit: ClassVar[str] = "FLOPs, one multiply-add = 2"
    is_measured: ClassVar[bool] = False

    def price(self, supernet: SuperNet, backbone: Backbone, workload: Workload) -> Polynomial:
        return _price(supernet, profile(supernet.model, backbone, workload))


@COSTS.register("macs")
@dataclass(frozen=True)
class Macs:
    """Multiply-adds of the matrix products in one forward pass: half the FLOPs, and counted by the same rules.

    fvcore calls these "flops", and adds 5 for each element that enters a layer norm.
    """

    unit: ClassVar[str] = "MACs"
    is_measured: ClassVar[bool] = False

    def price(self, supernet: SuperNet, backbone: Backbone, workload: Workload) -> Polynomial:
        flops = profile(supernet.model, backbone, workload)
        return _price(supernet, {name: count // 2 for name, count in flops.items()})


def profile(model: nn.Module, backbone: Backbone, workload: Workload) -> dict[str, int]:
    """The matmul FLOPs that each module of the full-size model computes itself, by the module's name ("" is the model).

    Runs a copy of the model on fake CPU tensors: no number is computed, no weight is copied, the model is not touched.
    """
    from torch.utils.flop_counter import FlopCounterMode

    with without_numbers():
        copied = hollow(model)
        inputs = backbone.example(copied, workload.batch_size, workload.length)
        counter = FlopCounterMode(display=False, custom_mapping=sdpa_mapping())
        own = _attribute_(copied, counter.get_total_flops)
        with counter:
            copied(**inputs)
    return {name: flops for name, flops in own.items() if flops}


def sdpa_mapping() -> dict[Any, Callable[..., int]]:
    """The formula of CPU scaled-dot-product attention, which `FlopCounterMode` of torch before 2.15 counts as 0."""
    import torch
    from torch.utils.flop_counter import sdpa_flop_count

    def flops(query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
        return sdpa_flop_count(query, key, value)

    return {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: flops}


def _attribute_(model: nn.Module, total: Callable[[], int]) -> dict[str, int]:
    """Hook a model so that, when it runs, each module notes by how much `total` grows outside the modules that it calls."""
    own: dict[str, int] = defaultdict(int)
    running = [""]

    def note() -> None:
        own[running[-1]] += total() - sum(own.values())

    def enter(name: str) -> Callable[..., None]:
        def hook(*_: Any) -> None:
            note()
            running.append(name)

        return hook

    def leave(*_: Any) -> None:
        note()
        running.pop()

    for name, module in model.named_modules():
        module.register_forward_pre_hook(enter(name))
        module.register_forward_hook(leave)
    return own


def _price(supernet: SuperNet, counts: Mapping[str, int]) -> Polynomial:
    shares = [Share(name, count, _scale(supernet.model, supernet.topology, name)) for name, count in counts.items()]
    return polynomial(supernet.topology, shares)


def _scale(model: nn.Module, topology: Topology, name: str) -> Scale:
    """The groups to whose numbers of units the FLOPs that a module computes itself are proportional; none: constant.

    A module whose children write units multiplies those (attention's scores and context). Any other multiplies by its own
    weights: the FLOPs are proportional to the weights' size. Tables count for nothing.

    Raises: TopologyError where the module's weights or children disagree.
    """
    module = model.get_submodule(name)
    prefix = f"{name}." if name else ""
    children = [f"{prefix}{child}.weight" for child, _ in module.named_children()]
    first = {id(parameter): key for key, parameter in reversed(list(model.named_parameters(remove_duplicate=False)))}
    weights = [first[id(p)] for _, p in module.named_parameters(recurse=False) if p.dim() > 1]
    scales = _written(topology, children) or {_sliced(topology, weight) for weight in weights}
    if len(scales) > 1:
        found = " or ".join(sorted(" x ".join(group.name for group in scale) or "nothing" for scale in scales))
        raise TopologyError(f"the FLOPs that {name!r} computes itself could scale with {found}: give each its own module")
    return next(iter(scales), ())


def _written(topology: Topology, weights: Iterable[str]) -> set[Scale]:
    """Each group that one of the weights writes, on its own."""
    return {(group,) for weight in weights for group, part in topology.slices_of.get(weight, ()) if part.writes}


def _sliced(topology: Topology, weight: str) -> Scale:
    """The groups to whose numbers of units the FLOPs of a product with a weight are proportional.

    A token meets as many experts as the router picks, however many there are: those that a weight holds do not count.
    """
    found = {group.name: group for group, part in topology.slices_of.get(weight, ()) if part.role not in ("hold", "neither")}
    return tuple(found[name] for name in sorted(found))
