"""The laws that every backbone keeps, as checks.

    from slimformer.testing import check_backbone

    def test_my_family_keeps_the_laws():
        check_backbone(MyFamily(), tiny_model)

The model should be tiny, its weights far enough from zero that every unit matters (drawn with standard deviation 0.3, say).
A single law is checked by its own function: `check_masking(Case.of(MyFamily(), tiny_model))`.

On real weights, from a shell: `python -m slimformer.testing CHECKPOINT` (`--help` says more).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from slimformer.backbones.base import Backbone
from slimformer.costs.base import COSTS, Workload, counted_costs
from slimformer.export.check import difference, run, share_precise_buffers_
from slimformer.plugins import load_plugins
from slimformer.rewiring import Shuffle
from slimformer.supernet.clone import join, parts_of, renumber
from slimformer.supernet.spec import SubnetSpec
from slimformer.supernet.topology import Topology
from slimformer.testing.cases import (
    LENGTH,
    NEW_TOKENS,
    Case,
    ModuleState,
    tensors_of,
)
from slimformer.testing.masking import masked
from slimformer.testing.saving import saved_and_loaded, spec_of_each_kind


def check_backbone(
    backbone: Backbone,
    model: nn.Module,
    *,
    specs: Sequence[SubnetSpec] | None = None,
    tolerance: float | None = None,
    seed: int = 0,
) -> None:
    """Check the nine laws on a tiny model, which is left as it was; the arguments are those of `Case.of`.

    Raises: AssertionError naming the law and the spec that broke it.
    """
    case = Case.of(backbone, model, specs=specs, tolerance=tolerance, seed=seed)
    for check in LAWS:
        check(case)


def check_full_size(case: Case) -> None:
    """Law 1: the full-size sub-network computes exactly what the untouched model computes."""
    with _law("1 (the full size is the model)", case.topology.full):
        _close(case.live(case.topology.full), case.run(case.model), tolerance=0)


def check_rewiring(case: Case) -> None:
    """Law 2: a rewiring changes no output beyond float error; its inverse restores every bit; `then` composes."""
    first, second = (Shuffle(case.seed + n)(case.topology, {}) for n in range(2))
    stepwise, at_once = case.new_supernet(), case.new_supernet()
    with _law("2 (rewiring changes nothing)", case.topology.full):
        first.apply_(stepwise)
        _close(case.run(stepwise), case.run(case.model), case.tolerance)
        first.inverse().apply_(stepwise)
        _close(stepwise.parameters(), case.model.parameters(), tolerance=0)
        for rewiring in (first, second):
            rewiring.apply_(stepwise)
        first.then(second).apply_(at_once)
        _close(at_once.parameters(), stepwise.parameters(), tolerance=0)


def check_masking(case: Case) -> None:
    """Law 3: a live sub-network equals its extraction, and the full model with the other units masked, blocks skipped.

    A norm over the residual stream takes its statistics over the units that remain, as in a model that was made so narrow.
    """
    for spec in case.specs:
        with _law("3 (slicing is extracting is masking)", spec):
            live = case.live(spec)
            _close(case.run(case.extraction(spec)), live, case.tolerance)
            with masked(case.model, case.topology, spec):
                _close(live, case.run(case.model), case.tolerance)


def check_parameter_count(case: Case) -> None:
    """Law 4: the parameters counted for a spec are those of its extraction."""
    load_plugins()
    price = COSTS.build("params").price(case.supernet, case.backbone, Workload(1, LENGTH))
    for spec in case.specs:
        with _law("4 (parameters are counted right)", spec):
            found = sum(p.numel() for p in case.extraction(spec).parameters())
            _expect(price(spec) == found, f"{price(spec)} parameters were counted, the extraction has {found}")


def check_gradients(case: Case) -> None:
    """Law 5: a backward pass adds nothing outside its sub-network, and the passes add up to the summed loss's gradient."""
    case.supernet.allocate_gradients_()
    for spec in case.specs:
        with _law("5 (no gradient outside a sub-network)", spec):
            before = {name: gradient.clone() for name, gradient in _gradients(case.supernet.model).items()}
            _loss(case.supernet.subnet(spec)(**case.batch)).backward()
            for name, gradient in _gradients(case.supernet.model).items():
                added = gradient - before[name]
                if not case.topology.is_dropped(name, spec):
                    for part in parts_of(name, added, case.topology, spec):
                        part.zero_()
                _expect(not added.any(), f"{name!r} has a gradient outside the sub-network")
    with _law("5 (gradients add up)", *case.specs):
        found = torch.cat([gradient.flatten() for gradient in _gradients(case.supernet.model).values()])
        _close([found], [_summed_gradient(case)], case.tolerance)


def check_costs(case: Case) -> None:
    """Law 6: no registered cost falls when units or blocks are added; measured ones are left out, as each needs a minute."""
    load_plugins()
    specs = {*case.specs, case.topology.full}
    prices = {}
    for name in counted_costs():
        price = COSTS.build(name).price(case.supernet, case.backbone, Workload(1, LENGTH))
        prices[name] = {spec: price(spec) for spec in specs}
    for low, high in itertools.permutations(specs, 2):
        for name, of in prices.items() if is_part_of(low, high) else ():
            with _law("6 (costs grow with size)", low, high):
                _expect(of[low] <= of[high], f"{name!r} falls from {of[low]} to {of[high]}")


def check_no_trace(case: Case) -> None:
    """Law 7: building and running sub-networks leaves the super-network's values, keys, hooks and attributes alone."""
    start = case.start
    for spec in case.specs:
        with _law("7 (a sub-network leaves no trace)", spec):
            case.live(spec)
            case.run(case.extraction(spec))
            now = ModuleState.of(case.supernet)
            _expect(list(now.weights) == list(start.weights), "the state-dict keys changed")
            _close(now.weights.values(), start.weights.values(), tolerance=0)
            changed = [name for name, state in now.held.items() if state != start.held.get(name)]
            _expect(not changed, f"attributes or hooks changed on modules {changed}")


def check_specs_differ(case: Case) -> None:
    """Law 8: two different specs give different outputs (a switch that does nothing is the classic bug)."""
    outputs = {spec: case.live(spec) for spec in case.specs}
    for one, other in itertools.combinations(outputs, 2):
        with _law("8 (different specs give different outputs)", one, other):
            pairs = list(zip(outputs[one], outputs[other], strict=True))
            _expect(any(_distance(a, b) > 16 * torch.finfo(a.dtype).eps for a, b in pairs), "both give the same outputs")


def check_saving(case: Case) -> None:
    """Law 9: a sub-network saved by its own class and loaded again is the same function, and holds the same tensors.

    By its class's `save_pretrained`; a plain module by its state dict and the spec. Checked on one spec of each kind: full, fewer
    units, fewer blocks, both, per layer.
    """
    for spec in spec_of_each_kind(case):
        with _law("9 (saving and loading changes nothing)", spec):
            model = case.supernet.extract(spec)
            loaded = saved_and_loaded(case, model, spec)
            share_precise_buffers_(model, loaded)
            different = difference(run(model, case.batch), run(loaded, case.batch), case.tolerance)
            different = different or difference(model.state_dict(), loaded.state_dict(), tolerance=0)
            _expect(not different, different)


def check_generation(case: Case) -> None:
    """Beside the laws, for models that generate text: every sub-network gives the same tokens with and without its cache."""
    given = {name: tensor for name, tensor in case.batch.items() if not name.startswith("decoder_")}
    if "attention_mask" in given:
        given["attention_mask"] = torch.ones_like(given["attention_mask"])
    options = {"max_new_tokens": NEW_TOKENS, "do_sample": False, "eos_token_id": None, "pad_token_id": 0}
    for spec in case.specs:
        with _law("of generation (a cache changes no token)", spec):
            for network in (case.supernet.subnet(spec), case.extraction(spec)):
                generate: Any = network.generate
                slow, fast = (generate(**given, use_cache=cache, **options) for cache in (False, True))
                _expect(slow.shape[-1] >= NEW_TOKENS, f"only {slow.shape[-1]} tokens were made")
                _expect(torch.equal(slow, fast), "the tokens differ")


LAWS: tuple[Callable[[Case], None], ...] = (
    check_full_size, check_rewiring, check_masking, check_parameter_count,
    check_gradients, check_costs, check_no_trace, check_specs_differ, check_saving,
)  # fmt: skip
"""The checks of the laws, each a function of a case."""


def is_part_of(small: SubnetSpec, large: SubnetSpec) -> bool:
    """Whether every unit and block of one spec is in another."""
    nested = all(set(kept) <= set(large.blocks[name]) for name, kept in small.blocks.items())
    return nested and all(size <= large.units[name] for name, size in small.units.items())


def _loss(outputs: Any) -> Tensor:
    return torch.stack([tensor.square().mean() for tensor in tensors_of(outputs)]).sum()


def _cut(full: Tensor, name: str, topology: Topology, spec: SubnetSpec) -> Tensor:
    return join(parts_of(name, full, topology, spec), topology.shape(name, full.shape, spec))


def _gradients(model: nn.Module) -> dict[str, Tensor]:
    return {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}


def _summed_gradient(case: Case) -> Tensor:
    """The gradient of the sub-networks' summed loss, by one backward pass through ordinary slicing of the full weights."""
    full, topology = dict(case.model.named_parameters()), case.topology
    total = torch.zeros(())
    for spec in case.specs:
        kept = [(name, _cut(p, name, topology, spec)) for name, p in full.items() if not topology.is_dropped(name, spec)]
        weights = {renumber(name, topology, spec): part for name, part in kept}
        total = total + _loss(torch.func.functional_call(case.extraction(spec), weights, kwargs=dict(case.batch)))
    found = torch.autograd.grad(total, list(full.values()), allow_unused=True, materialize_grads=True)
    return torch.cat([gradient.flatten() for gradient in found])


def _distance(found: Tensor, wanted: Tensor) -> float:
    """The largest difference, as a fraction of the largest wanted number."""
    if torch.equal(found, wanted):
        return 0.0
    return float((found - wanted).abs().max() / wanted.abs().max().clamp(min=torch.finfo(torch.float32).tiny))


def _close(found: Any, wanted: Any, tolerance: float) -> None:
    for a, b in zip(found, wanted, strict=True):
        _expect(a.shape == b.shape, f"a tensor has shape {tuple(a.shape)} instead of {tuple(b.shape)}")
        _expect(_distance(a, b) <= tolerance, f"a tensor is off by {_distance(a, b):.2g} of its largest number")


def _expect(kept: bool, complaint: str) -> None:
    if not kept:
        raise AssertionError(complaint)


@contextmanager
def _law(title: str, *specs: SubnetSpec) -> Iterator[None]:
    """Name the law and the specs in whatever goes wrong inside."""
    try:
        yield
    except Exception as error:  # a wrong topology can break a model's forward in any way
        where = " and ".join(str(spec.to_json()) for spec in specs)
        raise AssertionError(f"law {title} is broken for {where}: {type(error).__name__}: {error}") from error


def generates(model: Any) -> bool:
    """Whether a model has a `generate` of transformers."""
    return bool(getattr(model, "can_generate", lambda: False)())
