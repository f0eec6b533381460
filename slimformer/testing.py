"""The laws that every backbone keeps, as checks for plugin authors.

    from slimformer.testing import check_backbone

    def test_my_family_keeps_the_laws():
        check_backbone(MyFamily(), tiny_model)

The model should be tiny, its weights far enough from zero that every unit matters (drawn with standard deviation 0.3, say).
A single law is checked by its own function: `check_masking(Case.of(MyFamily(), tiny_model))`.

On real weights, from a shell: `python -m slimformer.testing CHECKPOINT` (`--help` says more).
"""

from __future__ import annotations

import argparse
import copy
import itertools
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from time import perf_counter
from typing import Any

import torch
from torch import Generator, Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from slimformer.backbone import Backbone, backbone_for
from slimformer.checkpoint import resolve
from slimformer.cost import COSTS, Workload, counted_costs
from slimformer.data import Batch
from slimformer.errors import CheckpointError, SlimformerError
from slimformer.narrow import follow_shapes_
from slimformer.plugins import load_plugins
from slimformer.rewiring import Shuffle
from slimformer.space import Axis, Space, count
from slimformer.supernet import SuperNet, join, parts_of, renumber
from slimformer.topology import Slice, SubnetSpec, Topology

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
    def start(self) -> _State:
        """What that super-network was before any sub-network of it was built."""
        return self._started[1]

    @cached_property
    def _started(self) -> tuple[SuperNet, _State]:
        supernet = self.new_supernet()
        return supernet, _State.of(supernet)

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


def check_backbone(
    backbone: Backbone,
    model: nn.Module,
    *,
    specs: Sequence[SubnetSpec] | None = None,
    tolerance: float | None = None,
    seed: int = 0,
) -> None:
    """Check the eight laws on a tiny model, which is left as it was; the arguments are those of `Case.of`.

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
            now = _State.of(case.supernet)
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
    check_gradients, check_costs, check_no_trace, check_specs_differ,
)  # fmt: skip


def uniform_specs(topology: Topology) -> list[SubnetSpec]:
    """All widths at one ratio and all depths at one ratio, each combination; then each axis alone at its smallest ratio."""
    space = _space(topology, WIDTHS, DEPTHS)
    deep = {stack.axis for stack in topology.stacks}
    together = [{a: d if a in deep else w for a in topology.axes} for d in DEPTHS for w in WIDTHS]
    alone = [{axis.name: axis.ratios[-1]} for axis in space.axes]
    return list(dict.fromkeys(space.spec(choice) for choice in together + alone))


def random_specs(topology: Topology, count: int, generator: Generator) -> list[SubnetSpec]:
    """Per-layer specs: any number of units from 1 in each group, any blocks of each stack."""
    space = _space(topology, (1.0, 1e-9), (1.0, 1e-9))
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


@contextmanager
def masked(model: nn.Module, topology: Topology, spec: SubnetSpec) -> Iterator[None]:
    """Meanwhile nothing reads the units outside a spec in a full-size model, whose weights are zero there, no router chooses
    them, and, by hooks, its dropped blocks do nothing.
    """
    with ExitStack() as hooks:
        rows: dict[int, int] = {}
        for name, units in spec.units.items():
            for part in topology.by_name[name].slices:
                weight = model.get_parameter(part.parameter)
                if part.role == "choose":
                    rows[id(weight)] = units * part.unit_size
                elif part.reads:
                    hooks.enter_context(_zeroed(weight, part, units * part.unit_size))
            for module in {part.module for part in topology.by_name[name].slices if part.role == "norm"}:
                norm = model.get_submodule(module)
                hooks.callback(norm.register_forward_hook(_narrow_norm(norm, units)).remove)
        hooks.enter_context(_Chosen(rows))
        for stack in topology.stacks:
            for block in set(range(stack.num_blocks)) - set(spec.blocks[stack.name]):
                skipped = model.get_submodule(f"{stack.path}.{block}")
                hooks.callback(skipped.register_forward_hook(_pass_by, with_kwargs=True).remove)
        yield


def tensors_of(outputs: Any) -> list[Tensor]:
    """The floating-point tensors in whatever a model returns."""
    return [leaf for leaf in tree_leaves(outputs) if isinstance(leaf, Tensor) and leaf.is_floating_point()]


def is_part_of(small: SubnetSpec, large: SubnetSpec) -> bool:
    """Whether every unit and block of one spec is in another."""
    nested = all(set(kept) <= set(large.blocks[name]) for name, kept in small.blocks.items())
    return nested and all(size <= large.units[name] for name, size in small.units.items())


def _space(topology: Topology, widths: tuple[float, ...], depths: tuple[float, ...]) -> Space:
    deep = {stack.axis for stack in topology.stacks}
    axes = tuple(Axis(name, depths if name in deep else widths) for name in topology.axes)
    return Space(topology, axes, lambda num_blocks, ratio: tuple(range(count(num_blocks, ratio))))


@contextmanager
def _zeroed(weight: Tensor, part: Slice, size: int) -> Iterator[None]:
    """Meanwhile a part of a weight, which spans its dimension, is zero behind its first `size` entries."""
    tail = weight.detach().narrow(part.dim, size, weight.shape[part.dim] - size)
    before = tail.clone()
    tail.zero_()
    try:
        yield
    finally:
        tail.copy_(before)


def _narrow_norm(norm: nn.Module, units: int) -> Callable[..., Tensor]:
    """A hook that lets a norm see its input's first `units` entries alone, as in a model made so narrow; the others are zero."""
    small = copy.deepcopy(norm)
    for parameter in small.parameters():
        parameter.data = parameter.data[:units]
    follow_shapes_(small)

    def hook(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
        return nn.functional.pad(small(args[0][..., :units]), (0, output.shape[-1] - units))

    return hook


class _Chosen(TorchFunctionMode):
    """Meanwhile linear layers with one of the given weights, by its id, give minus infinity behind their first outputs."""

    def __init__(self, rows: Mapping[int, int]) -> None:
        super().__init__()
        self.rows = rows

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = kwargs or {}
        result = func(*args, **given)
        if func is nn.functional.linear:
            rows = self.rows.get(id(args[1] if len(args) > 1 else given["weight"]))
            if rows is not None:
                result[..., rows:] = -torch.inf
        return result


def _pass_by(module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any], output: Any) -> Any:
    stream = next(itertools.chain(args, kwargs.values()))
    return (stream, *output[1:]) if isinstance(output, tuple) else stream


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


@dataclass(frozen=True)
class _State:
    """What building or running sub-networks must not change: the state dict, and what each module holds besides."""

    weights: Mapping[str, Tensor]
    held: Mapping[str, Any]

    @staticmethod
    def of(supernet: SuperNet) -> _State:
        return _State({name: tensor.clone() for name, tensor in supernet.state_dict().items()}, _held(supernet.model))


def _held(model: nn.Module) -> dict[str, Any]:
    """What each module holds besides its tensors and its parts, in a form that compares by value."""
    apart = ("_parameters", "_buffers", "_modules")
    return {n: _plain({k: v for k, v in vars(m).items() if k not in apart}) for n, m in model.named_modules()}


def _plain(value: Any, levels: int = 4) -> Any:
    """A copy that later changes of the value cannot reach; what lies deeper stands by its identity."""
    if isinstance(value, str | int | float | None):
        return value
    if isinstance(value, Mapping) and levels:
        return [(str(key), _plain(item, levels - 1)) for key, item in value.items()]
    if isinstance(value, list | tuple | set) and levels:
        return [_plain(item, levels - 1) for item in value]
    return _plain(vars(value), levels - 1) if hasattr(value, "__dict__") and levels else id(value)


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


def main(arguments: Sequence[str] | None = None) -> int:
    """Check the laws on a checkpoint, a line for each; returns the exit code: 1 for a broken law, 2 for a bad argument."""
    import transformers

    parser = argparse.ArgumentParser(prog="python -m slimformer.testing", description="Check the laws on a real checkpoint.")
    parser.add_argument("checkpoint", help="a hub name, a folder, or package:DISTRIBUTION/FOLDER")
    parser.add_argument("--dtype", default="float32", choices=["float64", "float32", "bfloat16", "float16"])
    parser.add_argument("--specs", type=int, default=2, help="random per-layer sub-networks, beside the largest and smallest")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    transformers.utils.logging.disable_progress_bar()
    try:
        case = _case_of(options.checkpoint, getattr(torch, options.dtype), options.specs, options.seed)
        checks = (*LAWS, check_generation) if generates(case.model) else LAWS
        for check in checks:
            start = perf_counter()
            check(case)
            print(f"holds, {perf_counter() - start:5.1f} s  {(check.__doc__ or '').splitlines()[0]}", flush=True)
    except SlimformerError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    except AssertionError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _case_of(checkpoint: str, dtype: torch.dtype, count: int, seed: int) -> Case:
    """Raises: CheckpointError where the checkpoint holds no transformers model; TopologyError where no backbone describes it."""
    import transformers

    load_plugins()
    source = resolve(checkpoint)
    try:
        config = transformers.AutoConfig.from_pretrained(source)
        model = getattr(transformers, (config.architectures or [""])[0]).from_pretrained(source, dtype=dtype)
    except (OSError, ValueError, AttributeError) as error:
        raise CheckpointError(f"{checkpoint} holds no transformers model: {str(error).splitlines()[0]}") from None
    backbone = backbone_for(model)
    topology = backbone.topology(model)
    print(f"{type(model).__name__}: {sum(p.numel() for p in model.parameters()):,} parameters, {', '.join(topology.axes)}")
    smallest = _space(topology, WIDTHS, DEPTHS).smallest().spec
    specs = (topology.full, smallest, *random_specs(topology, count, Generator().manual_seed(seed)))
    return Case.of(backbone, model, specs=specs, seed=seed)


def generates(model: Any) -> bool:
    """Whether a model has a `generate` of transformers."""
    return bool(getattr(model, "can_generate", lambda: False)())


if __name__ == "__main__":
    sys.exit(main())
