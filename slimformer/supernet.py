"""The super-network: a stock model, its topology, and live sub-networks that share its storage.

A live sub-network is a clone of the module tree whose parameters are views (`full[:rows, :cols]`) of the super-network's
parameters. It has the model's own classes and static shapes, costs no weight memory, and is switched by picking another
object: no hidden state is set or reset.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from slimformer.topology import BlockStack, SubnetSpec, Topology

# The gradient of a view is a slice of a larger buffer on purpose: one buffer for all sub-networks is what saves memory.
warnings.filterwarnings("ignore", message="grad and param do not obey the gradient layout contract")

ParameterMap = Callable[[str, nn.Parameter], nn.Parameter]


class SuperNet(nn.Module):
    """A stock model plus its topology.

    model: the untouched pretrained module; it stays stock, state-dict keys and all, so that any trainer can own it.

    Laws, for all specs `s`, `t` and batches `x` (tested by `slimformer.testing.check_backbone`):
    1. `subnet(full)(x) == model(x)`.
    3. `subnet(s)(x) == extract(s)(x)`, which equals `model(x)` with the other units masked and the other blocks skipped.
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
        """The sub-network of a spec as a plain module of its own class that owns contiguous copies of its weights."""

        def own(name: str, full: nn.Parameter) -> nn.Parameter:
            return nn.Parameter(self._view(name, full, spec).clone(memory_format=torch.contiguous_format), full.requires_grad)

        return self.clone(spec, own)

    def frozen(self, spec: SubnetSpec) -> nn.Module:
        """A live sub-network that takes no gradients, in eval mode: for teachers and for scoring. Not kept."""

        def freeze(name: str, full: nn.Parameter) -> nn.Parameter:
            return nn.Parameter(self._view(name, full, spec), requires_grad=False)

        return self.clone(spec, freeze).eval()

    def clone(self, spec: SubnetSpec, parameter: ParameterMap) -> nn.Module:
        """Copy the module tree without the blocks that the spec drops, each parameter replaced by `parameter(name, full)`.

        Head counts and other attributes, `in_features`/`out_features`, and the configuration's number of blocks are set on
        the copy to what the spec says. Tied parameters stay tied.
        """
        memo: dict[int, Any] = {
            id(full): parameter(name, full)
            for name, full in self.model.named_parameters()
            if not self.topology.is_dropped(name, spec)
        }
        for stack in self.topology.stacks:
            _copy_stack(self.model, stack, spec.blocks[stack.name], memo)
        module = copy.deepcopy(self.model, memo)
        self._patch_(module, spec)
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
        pairs: list[tuple[str, nn.Parameter, nn.Parameter]] = []

        def share(name: str, full: nn.Parameter) -> nn.Parameter:
            view = nn.Parameter(self._view(name, full, spec), full.requires_grad)
            pairs.append((name, full, view))
            return view

        live = _Live(self.clone(spec, share), pairs)
        self._bind_gradients_(live, spec)
        return live

    def _bind_gradients_(self, live: _Live, spec: SubnetSpec) -> None:
        for name, full, view in live.pairs:
            buffer = self._gradients.get(name)
            if buffer is None or full.grad is not buffer or not view.requires_grad:
                continue
            if view.grad is None or live.bound.get(name) != buffer.data_ptr():
                view.grad = self._view(name, buffer, spec)
                live.bound[name] = buffer.data_ptr()

    def _view(self, name: str, full: Tensor, spec: SubnetSpec) -> Tensor:
        view = full.detach()
        for dim, size in enumerate(self.topology.shape(name, full.shape, spec)):
            view = view.narrow(dim, 0, size) if size != view.shape[dim] else view
        return view

    def _patch_(self, module: nn.Module, spec: SubnetSpec) -> None:
        config = getattr(module, "config", None)
        for stack in self.topology.stacks:
            if config is not None and len(spec.blocks[stack.name]) != stack.num_blocks:
                setattr(config, stack.config_field, len(spec.blocks[stack.name]))
        for name, units in spec.units.items():
            for attribute in self.topology.by_name[name].attributes:
                owner = module.get_submodule(renumber(attribute.module, self.topology, spec))
                setattr(owner, attribute.name, attribute.per_unit * units)
        for part in module.modules():
            if isinstance(part, nn.Linear):
                part.out_features, part.in_features = part.weight.shape


class _Live:
    """A live sub-network and its parameters, each beside the full parameter that it views."""

    def __init__(self, module: nn.Module, pairs: list[tuple[str, nn.Parameter, nn.Parameter]]) -> None:
        self.module = module
        self.pairs = pairs
        self.bound: dict[str, int] = {}
        """The gradient buffer, by its address, of which each parameter's `.grad` is a slice."""

    def is_current(self, parameters: Mapping[str, nn.Parameter]) -> bool:
        return all(
            parameters.get(name) is full and view.data_ptr() == full.data_ptr() and view.requires_grad == full.requires_grad
            for name, full, view in self.pairs
        )


def renumber(name: str, topology: Topology, spec: SubnetSpec) -> str:
    """What a parameter or module of the full model is called in a sub-network, whose remaining blocks count from 0."""
    for stack in topology.stacks:
        head = f"{stack.path}."
        if name.startswith(head):
            index, _, rest = name[len(head) :].partition(".")
            name = f"{head}{spec.blocks[stack.name].index(int(index))}" + (f".{rest}" if rest else "")
    return name


def _copy_stack(model: nn.Module, stack: BlockStack, kept: Iterable[int], memo: dict[int, Any]) -> None:
    """Put a copy of a block list with only the kept blocks into `memo`, so that a deep copy of the model uses it."""
    container = model.get_submodule(stack.path)
    blocks = list(container.children())
    short = copy.copy(container)
    short.__dict__ = {key: copy.copy(value) if isinstance(value, dict) else value for key, value in vars(container).items()}
    memo[id(container)] = short
    short._modules = {str(new): copy.deepcopy(blocks[old], memo) for new, old in enumerate(kept)}
