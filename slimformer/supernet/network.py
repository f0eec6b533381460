"""The super-network: a stock model, its topology, and live sub-networks that share its storage.

A live sub-network is a clone of the module tree whose parameters are views (`full[:rows, :cols]`) of the super-network's
parameters. It has the model's own classes and static shapes, costs no weight memory, and is switched by picking another
object: no hidden state is set or reset.

A fused parameter (query, key and value in one) has no such view, but each of its parts has: the clone holds the parts' views
and concatenates them when its module reads the parameter, whatever the layer. That copies the weight at each forward pass
(a fused weight cut to half is read once more than an unfused one); an extraction has the stock layout again.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from slimformer.supernet.clone import (
    ParameterMap,
    copy_stack,
    fuse_,
    gather_shared_inputs_,
    join,
    parts_of,
    renumber,
    set_sizes_,
)
from slimformer.supernet.configuration import configure_
from slimformer.supernet.spec import SubnetSpec
from slimformer.supernet.topology import Slice, Topology, UnitGroup

# The gradient of a view is a slice of a larger buffer on purpose: one buffer for all sub-networks is what saves memory.
warnings.filterwarnings("ignore", message="grad and param do not obey the gradient layout contract")


class SuperNet(nn.Module):
    """A stock model plus its topology.

    model: the untouched pretrained module; it stays stock, state-dict keys and all, so that any trainer can own it. Only
        where groups name shared inputs does it get a buffer (kept out of the state dict; its configuration takes it along)
        and a hook for each.

    Laws, for all specs `s`, `t` and batches `x` (tested by `slimformer.testing.check_backbone`):
    1. `subnet(full)(x) == model(x)`.
    3. `subnet(s)(x) == extract(s)(x)`, which equals `model(x)` with the other units masked and the other blocks skipped; norms
       over the residual stream see the remaining units alone.
    5. With gradient buffers (`allocate_gradients_`), `backward` through `subnet(s)` adds d loss / d parameter to the
       super-network's `.grad`, zero outside `s`; passes through `s` and `t` add up.
    7. Building or running a sub-network changes no value and no key of `state_dict()`.

    Raises: TopologyError where the topology does not fit the model.
    """

    def __init__(self, model: nn.Module, topology: Topology) -> None:
        super().__init__()
        topology.check({name: p.shape for name, p in model.named_parameters(remove_duplicate=False)})
        self.model = model
        self.topology = topology
        gather_shared_inputs_(model, topology)
        self._live: dict[SubnetSpec, _Live] = {}
        self._gradients: dict[str, Tensor] = {}

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The full-size model."""
        return self.model(*args, **kwargs)

    def subnet(self, spec: SubnetSpec) -> nn.Module:
        """The live sub-network of a spec: views of this super-network's storage, built once and kept.

        It is in train or eval mode as the super-network's model is now. A sub-network that the model has outgrown (it
        moved to another device, a parameter was frozen or replaced) is built anew.
        """
        live = self._live.get(spec)
        if live is None or not live.is_current(dict(self.model.named_parameters())):
            live = self._build(spec)
            self._live[spec] = live
        live.module.train(self.model.training)
        return live.module

    def extract(self, spec: SubnetSpec) -> nn.Module:
        """The sub-network of a spec as a plain module that owns contiguous copies of its weights and buffers.

        Law 9: saved by its own `save_pretrained` and loaded again (`slimformer.from_pretrained`, or transformers' classes with
        `trust_remote_code=True`), it is the same function. It is of the model's class where the configuration can say its
        sizes, else of a subclass of the same name. Of a plain module, save the state dict and the spec, and load them into an
        extraction of that spec.
        """
        module = self.clone(spec, partial(_own, self.topology, spec))
        for part in module.modules():
            for name, buffer in part.named_buffers(recurse=False):
                part._buffers[name] = buffer.clone()  # places in shared inputs are views, as weights are
        configure_(module, self.model, self.topology, spec)
        return module

    def units(self, group: UnitGroup, part: Slice) -> Tensor:
        """A view of one slice of a group in the full model's parameter, Float[Tensor, "units unit_size ..."].

        The remaining dimensions are the parameter's own without `part.dim`. Writing to the view changes the model.
        Raises: AttributeError where the model has no such parameter.
        """
        length = group.num_units * part.unit_size
        view = self.model.get_parameter(part.parameter).narrow(part.dim, part.start, length)
        return view.unflatten(part.dim, (group.num_units, part.unit_size)).movedim((part.dim, part.dim + 1), (0, 1))

    def frozen(self, spec: SubnetSpec) -> nn.Module:
        """A live sub-network that takes no gradients, in eval mode: for teachers and for scoring. Not kept."""

        def freeze(name: str, full: nn.Parameter, parts: Sequence[Tensor]) -> Sequence[nn.Parameter]:
            return [nn.Parameter(part, requires_grad=False) for part in parts]

        return self.clone(spec, freeze).eval()

    def clone(self, spec: SubnetSpec, parameter: ParameterMap) -> nn.Module:
        """Copy the module tree without the blocks that the spec drops, each parameter replaced by what `parameter` makes.

        Head counts and other attributes, `in_features`/`out_features`, and the configuration's number of blocks are set on
        the copy to what the spec says. Tied parameters stay tied.
        """
        memo: dict[int, Any] = {}
        fused: dict[str, Sequence[nn.Parameter]] = {}
        for name, full in self.model.named_parameters():
            if not self.topology.is_dropped(name, spec):
                made = parameter(name, full, parts_of(name, full.detach(), self.topology, spec))
                memo[id(full)] = made[0]
                if len(made) > 1:
                    fused[name] = made
        for stack in self.topology.stacks:
            copy_stack(self.model, stack, spec.blocks[stack.name], memo)
        module = copy.deepcopy(self.model, memo)
        for name, made in fused.items():
            shape = self.topology.shape(name, self.model.get_parameter(name).shape, spec)
            fuse_(module, renumber(name, self.topology, spec), made, shape)
        set_sizes_(module, self.model, self.topology, spec)
        return module

    def allocate_gradients_(self) -> None:
        """Give every trainable parameter a `.grad` buffer that its views in all live sub-networks share; zero it if fresh.

        Call it before the backward passes of a step. Autograd accumulates into an existing `.grad` in place, so the passes
        of any sub-networks add up in the super-network's gradient, and the optimizer sees only full parameters. A `.grad`
        that `zero_grad` set to None is replaced by its old buffer, filled with zeros.
        """
        for name, full in self.model.named_parameters():
            if not full.requires_grad:
                continue
            buffer = self._gradients.get(name)
            if buffer is None or buffer.device != full.device or buffer.dtype != full.dtype:
                buffer = self._gradients[name] = torch.zeros_like(full, memory_format=torch.contiguous_format)
                full.grad = None if full.grad is None else buffer.copy_(full.grad)
            if full.grad is None:
                full.grad = buffer.zero_()
            elif full.grad is not buffer:
                full.grad = buffer.copy_(full.grad)
        parameters = dict(self.model.named_parameters())
        self._live = {spec: live for spec, live in self._live.items() if live.is_current(parameters)}
        for spec, live in self._live.items():
            self._bind_gradients_(live, spec)

    def release_gradients_(self) -> None:
        """Free the gradient buffers and the live sub-networks, after training."""
        self._gradients.clear()
        self._live.clear()
        self.model.zero_grad(set_to_none=True)

    def _build(self, spec: SubnetSpec) -> _Live:
        pairs: list[_Pair] = []

        def share(name: str, full: nn.Parameter, parts: Sequence[Tensor]) -> Sequence[nn.Parameter]:
            views = [nn.Parameter(part, full.requires_grad) for part in parts]
            pairs.extend(_Pair(name, index, full, view) for index, view in enumerate(views))
            return views

        live = _Live(self.clone(spec, share), pairs)
        self._bind_gradients_(live, spec)
        return live

    def _bind_gradients_(self, live: _Live, spec: SubnetSpec) -> None:
        for pair in live.pairs:
            buffer = self._gradients.get(pair.name)
            if buffer is None or pair.full.grad is not buffer or not pair.view.requires_grad:
                continue
            if pair.view.grad is None or live.bound.get(pair) != buffer.data_ptr():
                pair.view.grad = parts_of(pair.name, buffer, self.topology, spec)[pair.part]
                live.bound[pair] = buffer.data_ptr()


def _own(
    topology: Topology, spec: SubnetSpec, name: str, full: nn.Parameter, parts: Sequence[Tensor]
) -> Sequence[nn.Parameter]:
    whole = join(parts, topology.shape(name, full.shape, spec))
    return (nn.Parameter(whole.clone(memory_format=torch.contiguous_format), full.requires_grad),)


@dataclass(frozen=True, eq=False)
class _Pair:
    """A live sub-network's parameter beside the full parameter of which it views a part."""

    name: str
    part: int
    full: nn.Parameter
    view: nn.Parameter

    def is_current(self, parameters: Mapping[str, nn.Parameter]) -> bool:
        full, view = self.full, self.view
        shares = view.untyped_storage().data_ptr() == full.untyped_storage().data_ptr()
        begins = self.part > 0 or view.data_ptr() == full.data_ptr()
        return parameters.get(self.name) is full and shares and begins and view.requires_grad == full.requires_grad


class _Live:
    """A live sub-network and its parameters, each beside the full parameter that it views."""

    def __init__(self, module: nn.Module, pairs: list[_Pair]) -> None:
        self.module = module
        self.pairs = pairs
        self.bound: dict[_Pair, int] = {}
        """The gradient buffer, by its address, of which each parameter's `.grad` is a slice."""

    def is_current(self, parameters: Mapping[str, nn.Parameter]) -> bool:
        return all(pair.is_current(parameters) for pair in self.pairs)
