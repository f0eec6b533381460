"""Live sub-networks: kept while they are used, rebuilt when the model's settings changed, their gradients in the model's own."""

from __future__ import annotations

import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Sequence
from operator import is_

import torch
from torch import Tensor, nn

from slimformer.supernet.spec import SubnetSpec

Cut = Callable[[Tensor], Tensor]
"""The view of a gradient buffer that belongs to one part of a parameter in a sub-network."""

PLAIN = (bool, int, float, str, type(None))


class Gradients:
    """Gradient buffers of the full parameters. The gradients of live sub-networks' parameters are views of them.

    A view gets its part of the buffer in the backward pass, right before autograd adds to it: whatever `zero_grad` did before,
    the pass lands in the full parameter's `.grad`, and the passes of several sub-networks add up there.
    """

    def __init__(self) -> None:
        self._buffers: dict[str, Tensor] = {}
        self._lock = threading.Lock()

    def __deepcopy__(self, memo: dict[int, object]) -> Gradients:
        return Gradients()

    def buffer(self, name: str, full: nn.Parameter) -> Tensor:
        """The parameter's `.grad` as the buffer that views share: zero if it had none, with its values if it had another."""
        with self._lock:
            buffer, given = self._buffers.get(name), full.grad
            if given is not None and given is buffer:
                return given
            if buffer is None or (buffer.device, buffer.dtype, buffer.shape) != (full.device, full.dtype, full.shape):
                buffer = self._buffers[name] = torch.zeros_like(full, memory_format=torch.contiguous_format)
                full.grad = None  # a gradient of another type cannot be replaced by one of this
            with torch.no_grad():
                full.grad = buffer.zero_() if given is None else buffer.copy_(given)
            return buffer

    def attach(self, view: nn.Parameter, name: str, full: nn.Parameter, cut: Cut) -> None:
        """Let the gradient of a view of a parameter be the view of that parameter's gradient."""
        owner, known = weakref.ref(view), weakref.ref(self)
        bound: list[Tensor | None] = [None, None]

        def bind(gradient: Tensor) -> None:
            target, store = owner(), known()
            if target is None or store is None:
                return
            if full.grad is None or full.grad is not bound[0] or target.grad is None or target.grad is not bound[1]:
                buffer = store.buffer(name, full)
                target.grad = cut(buffer)
                bound[:] = buffer, target.grad

        view.register_hook(bind)

    def clear(self) -> None:
        self._buffers.clear()


class LiveNetwork:
    """A live sub-network, and each of its modules beside the one of the model that it is a copy of."""

    def __init__(self, module: nn.Module, version: int, twins: Sequence[tuple[nn.Module, nn.Module]]) -> None:
        self.module = module
        self.version = version
        self._twins = [(vars(copy), vars(original)) for copy, original in twins]

    def mirror_modes_(self) -> None:
        """Put every module into the train or eval mode of the model's."""
        for copy, original in self._twins:
            if copy["training"] is not original["training"]:
                copy["training"] = original["training"]


class LiveCache:
    """The live sub-networks used last.

    limit: how many are kept; the one that was not asked for the longest goes first.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._networks: OrderedDict[SubnetSpec, LiveNetwork] = OrderedDict()
        self._lock = threading.Lock()

    def __deepcopy__(self, memo: dict[int, object]) -> LiveCache:
        return LiveCache(self.limit)

    def __len__(self) -> int:
        return len(self._networks)

    def get(self, spec: SubnetSpec, version: int) -> LiveNetwork | None:
        """The sub-network of a spec if it was built from the model as it is now."""
        with self._lock:
            found = self._networks.get(spec)
            if found is None or found.version != version:
                return None
            self._networks.move_to_end(spec)
            return found

    def put(self, spec: SubnetSpec, network: LiveNetwork) -> None:
        with self._lock:
            self._networks[spec] = network
            self._networks.move_to_end(spec)
            while len(self._networks) > self.limit:
                self._networks.popitem(last=False)

    def clear(self) -> None:
        with self._lock:
            self._networks.clear()


class Watch:
    """Notices changes of a model's settings: attributes, hooks, parts, configurations, and which tensors its parameters are.

    Train and eval mode is none of them, and neither are the values of weights.
    """

    def __init__(self) -> None:
        self.version = 0
        self._seen: list[tuple[nn.Module, tuple[object, ...]]] = []
        self._configs: list[tuple[object, dict[str, object]]] = []
        self._tensors: list[tuple[int, bool, object]] = []
        self._parameters: list[nn.Parameter] = []
        self._lock = threading.Lock()

    def __deepcopy__(self, memo: dict[int, object]) -> Watch:
        return Watch()

    def look(self, model: nn.Module) -> int:
        """The number of the model's settings: another one once something changed."""
        with self._lock:
            if not self._is_same(model):
                self._remember(model)
                self.version += 1
            return self.version

    def _is_same(self, model: nn.Module) -> bool:
        if not self._seen or self._seen[0][0] is not model:
            return False
        changed: list[int] = []
        for index, (module, before) in enumerate(self._seen):
            now = _state(module)
            if len(now) != len(before) or not all(map(is_, now, before)):
                changed.append(index)
        if any(not _is_mode_alone(*self._seen[index]) for index in changed):
            return False
        for index in changed:
            module = self._seen[index][0]
            self._seen[index] = (module, _state(module))
        same_configs = all(_is_config_same(config, before) for config, before in self._configs)
        return same_configs and [_identity(p) for p in self._parameters] == self._tensors

    def _remember(self, model: nn.Module) -> None:
        self._seen = [(module, _state(module)) for module in model.modules()]
        configs: dict[int, object] = {}
        for module, _ in self._seen:
            for value in vars(module).values():
                _collect_configs(value, configs)
        self._configs = [(config, _settings(config)) for config in configs.values()]
        self._parameters = list(model.parameters())
        self._tensors = [_identity(parameter) for parameter in self._parameters]


def _state(module: nn.Module) -> tuple[object, ...]:
    """What a module holds: attributes, then parameters, buffers, parts and hooks."""
    held = vars(module)
    return (
        *held.values(), *held["_parameters"].values(), *held["_buffers"].values(), *held["_modules"].values(),
        *held["_forward_pre_hooks"].values(), *held["_forward_hooks"].values(),
        *held["_backward_pre_hooks"].values(), *held["_backward_hooks"].values(),
    )  # fmt: skip


def _is_mode_alone(module: nn.Module, before: tuple[object, ...]) -> bool:
    """Whether a module differs from what it was in its train or eval mode alone, or in objects of equal plain values."""
    now, mode = _state(module), list(vars(module)).index("training")
    if len(now) != len(before):
        return False
    pairs = enumerate(zip(now, before, strict=True))
    return all(a is b or place == mode or (type(a) is type(b) and isinstance(a, PLAIN) and a == b) for place, (a, b) in pairs)


def _identity(parameter: nn.Parameter) -> tuple[int, bool, object]:
    """Which storage a parameter has, and whether it is trained; tensors without storage are told apart by their type."""
    try:
        place: object = parameter.data_ptr()
    except RuntimeError:
        place = None
    return id(parameter), parameter.requires_grad, place or (parameter.device, parameter.dtype)


def _collect_configs(value: object, found: dict[int, object]) -> None:
    """Add a configuration and those inside it, by identity; transformers' and everyone's whose class is called `...Config`."""
    if type(value).__name__.endswith("Config") and hasattr(value, "__dict__") and id(value) not in found:
        found[id(value)] = value
        for inner in vars(value).values():
            _collect_configs(inner, found)


def _settings(config: object) -> dict[str, object]:
    """A configuration's values; lists and tables are copied, as they may be changed in place."""
    return {k: list(v) if isinstance(v, list) else dict(v) if isinstance(v, dict) else v for k, v in vars(config).items()}


def _is_config_same(config: object, before: dict[str, object]) -> bool:
    now = vars(config)
    if len(now) != len(before):
        return False
    for name, value in now.items():
        old = before.get(name)
        if value is old:
            continue
        if type(value) is not type(old) or not isinstance(value, (*PLAIN, list, tuple, dict)) or value != old:
            return False
    return True
