"""Times live sub-networks of a super-network, in turn."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from slimformer.supernet import SubnetSpec
from slimformer_counters.fake_tensors import whole_layers

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from slimformer.backbones import Backbone
    from slimformer.costs import Workload
    from slimformer.supernet import SuperNet

ROUNDS = 3, 30
"""The fewest and the most rounds of a measurement."""

LEAST = 0.005
"""Seconds that a timing spans at least, by repeating a short pass."""


class Stopwatch:
    """Times a forward pass of sub-networks in one setting.

    A sub-network is live where it can be: views of the super-network's weights, so that many of them take no memory. Fused
    weights, which an extraction stores whole, are joined once, not at each pass.
    """

    def __init__(
        self,
        supernet: SuperNet,
        backbone: Backbone,
        workload: Workload,
        device: torch.device,
        dtype: str,
        threads: int,
        clock: str,
    ) -> None:
        import torch

        self._supernet = supernet
        self._device = device
        self._dtype: torch.dtype = getattr(torch, dtype) if dtype else next(supernet.model.parameters()).dtype
        self._threads = threads or torch.get_num_threads()
        self._clock: Callable[[], float] = time.process_time if clock == "cpu" else time.perf_counter
        self._wait: Callable[[], object] = torch.accelerator.synchronize if device.type != "cpu" else lambda: None
        example = backbone.example(supernet.model, workload.batch_size, workload.length)
        self._inputs = {name: self._moved(tensor) for name, tensor in example.items()}

    def _moved(self, tensor: Tensor) -> Tensor:
        return tensor.to(self._device, self._dtype if tensor.is_floating_point() else tensor.dtype)

    def _build(self, spec: SubnetSpec) -> nn.Module:
        return whole_layers(self._supernet, spec).to(self._device, self._dtype)

    def affordable(self, passes: float, seconds: float) -> float:
        """The share of the blocks, at most 1, with which passes that take as long as `passes` full-size ones fit in the time."""
        with self._setting():
            module = self._build(self._supernet.topology.full)
            self._time(module, 1)
            taken = self._time(module, 1)
        return min(1.0, seconds / (taken * passes * (ROUNDS[0] + 1)))

    def fastest(self, specs: Sequence[SubnetSpec], seconds: float) -> dict[SubnetSpec, float]:
        """The seconds of the fastest pass of each spec; all of them run in turn, in rounds, as long as the time allows."""
        modules = {spec: self._build(spec) for spec in specs}
        found = dict.fromkeys(modules, float("inf"))
        began = time.perf_counter()
        with self._setting():
            repeats = {spec: max(1, round(LEAST / self._time(module, 1))) for spec, module in modules.items()}
            for number in range(ROUNDS[1]):
                if number >= ROUNDS[0] and time.perf_counter() - began > seconds:
                    break
                for spec, module in modules.items():
                    found[spec] = min(found[spec], self._time(module, repeats[spec]))
        return found

    def _time(self, module: nn.Module, repeats: int) -> float:
        self._wait()
        began = self._clock()
        for _ in range(repeats):
            module(**self._inputs)
        self._wait()
        return (self._clock() - began) / repeats

    @contextmanager
    def _setting(self) -> Iterator[Any]:
        import torch

        before = torch.get_num_threads()
        torch.set_num_threads(self._threads)
        try:
            with torch.inference_mode():
                yield
        finally:
            torch.set_num_threads(before)
