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
from collections.abc import Sequence
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
from slimformer.supernet.live import Gradients, LiveCache, LiveNetwork, Watch
from slimformer.supernet.spec import SubnetSpec
from slimformer.supernet.ties import check_ties
from slimformer.supernet.topology import Slice, Topology, UnitGroup

# The gradient of a view is a slice of a larger buffer on purpose: one buffer for all sub-networks is what saves memory.
warnings.filterwarnings("ignore", message="grad and param do not obey the gradient layout contract")

MAX_LIVE = 64


class SuperNet(nn.Module):
    """A stock model plus its topology.

    model: the untouched pretrained module; it stays stock, state-dict keys and all, so that any trainer can own it. Only
        where groups name shared inputs does it get a buffer (kept out of the state dict; its configuration takes it along)
        and a hook for each.

    Laws, for all specs `s`, `t` and batches `x` (tested by `slimformer.testing.check_backbone`):
    1. `subnet(full)(x) == model(x)`.
    3. `subnet(s)(x) == extract(s)(x)`, which equals `model(x)` with the other units masked and the other blocks skipped; norms
       over the residual stream see the remaining units alone.
    5. `backward` through `subnet(s)` adds d loss / d parameter to the super-network's `.grad`, zero outside `s`; passes through
       `s` and `t` add up.
    7. Building or running a sub-network changes no value and no key of `state_dict()`, but for statistics that the model's own
       forward pass in train mode updates too.

    max_live: how many live sub-networks are kept for the next `subnet` of their spec, the last used ones.

    Raises: TopologyError where the topology does not fit the model, or parameters are shared in a way that it cannot follow.
    """

    def __init__(self, model: nn.Module, topology: Topology, *, max_live: int = MAX_LIVE) -> None:
        super().__init__()
        topology.check({name: p.shape for name, p in model.named_parameters(remove_duplicate=False)})
        check_ties(model, topology)
        self.model = model
        self.topology = topology
        gather_shared_inputs_(model, topology)
        self._live = LiveCache(max_live)
        self._watch = Watch()
        self._gradients = Gradients()

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The full-size model."""
        return self.model(*args, **kwargs)

    def subnet(self, spec: SubnetSpec) -> nn.Module:
        """The live sub-network of a spec: views of this super-network's storage, built once and kept while it is used.

        Each of its modules is in train or eval mode as the model's module is now, and its buffers (the statistics of
        `nn.BatchNorm`, say) are the model's. A sub-network that the model has outgrown (it moved to another device, a parameter
        was frozen or replaced, an attribute, a hook or the configuration changed) is built anew.

        Example: gradients land in the super-network, and an optimizer of its parameters trains it.

            loss = supernet.subnet(spec)(**batch).loss
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        """
        version = self._watch.look(self.model)
        live = self._live.get(spec, version)
        if live is None:
            live = self._build(spec, version)
            self._live.put(spec, live)
        live.mirror_modes_()
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
        memo: dict[int, Any] = {id(buffer): buffer for buffer in self.model.buffers()}
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
        """Give every trainable parameter a `.grad` buffer, zero if it has none; those that no pass reaches get zeros too.

        Not needed for correct gradients: a backward pass through a live sub-network makes the buffers that it needs. With it an
        optimizer treats parameters outside of a step's sub-networks as trained ones whose gradient is zero (AdamW's moments
        and weight decay go on); without it, it leaves those alone that never had a gradient since `zero_grad`.
        """
        for name, full in self.model.named_parameters():
            if full.requires_grad:
                self._gradients.buffer(name, full)

    def release_gradients_(self) -> None:
        """Free the gradient buffers and the live sub-networks, after training."""
        self._gradients.clear()
        self._live.clear()
        self.model.zero_grad(set_to_none=True)

    def _build(self, spec: SubnetSpec, version: int) -> LiveNetwork:
        def share(name: str, full: nn.Parameter, parts: Sequence[Tensor]) -> Sequence[nn.Parameter]:
            views = [nn.Parameter(part, full.requires_grad) for part in parts]
            for index, view in enumerate(views if full.requires_grad else ()):
                self._gradients.attach(view, name, full, partial(self._part_of, name, spec, index))
            return views

        module = self.clone(spec, share)
        names = [(name, part) for name, part in self.model.named_modules() if not self.topology.is_dropped(name, spec)]
        twins = [(module.get_submodule(renumber(name, self.topology, spec)), part) for name, part in names]
        return LiveNetwork(module, version, twins)

    def _part_of(self, name: str, spec: SubnetSpec, index: int, buffer: Tensor) -> Tensor:
        return parts_of(name, buffer, self.topology, spec)[index]


def _own(
    topology: Topology, spec: SubnetSpec, name: str, full: nn.Parameter, parts: Sequence[Tensor]
) -> Sequence[nn.Parameter]:
    whole = join(parts, topology.shape(name, full.shape, spec))
    return (nn.Parameter(whole.clone(memory_format=torch.contiguous_format), full.requires_grad),)
