"""Sub-networks to measure, without the memory of an extraction; copies of models without numbers, to count on."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from slimformer.supernet import SubnetSpec

if TYPE_CHECKING:
    from torch import Tensor, nn

    from slimformer.supernet import SuperNet


@contextmanager
def without_numbers() -> Iterator[None]:
    """Inside, tensors are fake CPU tensors, and autograd is off."""
    import torch
    from torch._subclasses.fake_tensor import FakeTensorMode

    with torch.no_grad(), torch.device("cpu"), FakeTensorMode(allow_non_fake_inputs=True):
        yield


def whole_layers(supernet: SuperNet, spec: SubnetSpec) -> nn.Module:
    """The sub-network of a spec, in eval mode: views, but for fused weights, which are joined as an extraction stores them."""
    import torch

    from slimformer.supernet import join

    def share(name: str, full: nn.Parameter, parts: Sequence[Tensor]) -> Sequence[nn.Parameter]:
        return [torch.nn.Parameter(join(parts, supernet.topology.shape(name, full.shape, spec)), requires_grad=False)]

    return supernet.clone(spec, share).eval()


def hollow(model: nn.Module, dtype: str = "") -> nn.Module:
    """A copy of a model, in eval mode, whose parameters and buffers have shapes only; to be made inside `without_numbers`.

    dtype: the number type of its floating-point parameters and buffers; "" for the model's own.
    Its experts multiply in one product of a fixed shape: a loop over those that tokens chose needs the tokens.
    """
    import torch

    def empty(tensor: torch.Tensor) -> torch.Tensor:
        own = getattr(torch, dtype) if dtype and tensor.is_floating_point() else tensor.dtype
        return torch.empty(tensor.shape, dtype=own)

    memo: dict[int, Any] = {id(buffer): empty(buffer) for buffer in model.buffers()}
    memo |= {id(parameter): torch.nn.Parameter(empty(parameter), requires_grad=False) for parameter in model.parameters()}
    copied: Any = copy.deepcopy(model, memo).eval()
    if getattr(getattr(copied, "config", None), "_experts_implementation", None):
        copied.set_experts_implementation("batched_mm")
    return copied
