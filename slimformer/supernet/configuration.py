"""Write a sub-network's sizes into its model's configuration."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from slimformer.errors import ExportError
from slimformer.supernet.clone import renumber
from slimformer.supernet.config_fields import read_field, write_field_
from slimformer.supernet.network import SuperNet
from slimformer.supernet.spec import SubnetSpec

CODE_FILE = "modeling_slimformer"
"""The module in an exported folder whose classes its configuration names."""


def restore_orders_(model: nn.Module, supernet: SuperNet, spec: SubnetSpec) -> None:
    """Put the units that read a shared input back into that input's order where all of them remain: stock code knows no other."""
    for group in (supernet.topology.by_name[name] for name, units in spec.units.items()):
        if not group.shared or spec.units[group.name] != group.num_units:
            continue
        readers = [model.get_submodule(renumber(shared.module, supernet.topology, spec)) for shared in group.shared]
        order = readers[0].get_buffer(group.shared[0].buffer).argsort()
        for part in group.slices:
            weight = model.get_parameter(renumber(part.parameter, supernet.topology, spec)).detach()
            units = weight.narrow(part.dim, part.start, group.num_units * part.unit_size).unflatten(
                part.dim, (-1, part.unit_size)
            )
            units.copy_(units.index_select(part.dim, order))
        for reader, shared in zip(readers, group.shared, strict=True):
            reader.get_buffer(shared.buffer).copy_(torch.arange(group.num_units))


def configure_(model: Any, supernet: SuperNet, spec: SubnetSpec) -> bool:
    """Say in the stock configuration what it can say: sizes on which all groups of a field agree.

    Where that does not give the sub-network's shapes, the configuration keeps the super-network's sizes: other code derives
    a head's size, say, from the number of heads.
    Returns: whether the stock class, so configured, has the sub-network's shapes.
    """
    sizes: dict[str, set[int]] = {}
    for name, units in spec.units.items():
        group = supernet.topology.by_name[name]
        for field, per_unit in group.config:
            sizes.setdefault(field, set()).add(units * per_unit)
    before = {field: read_field(model.config, field) for field in sizes}
    for field, values in sizes.items():
        if len(values) == 1:
            write_field_(model.config, field, next(iter(values)))
    try:
        is_stock = _shapes(model) == _shapes(_rebuild(model))
    except ValueError:  # a configuration may forbid sizes, as hidden states that are no multiple of the heads
        is_stock = False
    if not is_stock:
        for field, value in before.items():
            write_field_(model.config, field, value)
    return is_stock


def _rebuild(model: nn.Module) -> nn.Module:
    with torch.device("meta"):
        return type(model)(model.config)


def _shapes(model: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}


def describe_(model: Any, supernet: SuperNet, spec: SubnetSpec) -> None:
    """Write the sub-network's shapes and attributes, where they differ from the stock ones, into its configuration."""
    stock = dict(_rebuild(model).named_modules())
    modules = _borrow_(stock, model)
    linear: dict[str, list[int]] = {}
    parameters: dict[str, list[int]] = {}
    attributes: dict[str, dict[str, int]] = {}
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear) and module.weight.shape != stock[name].weight.shape:
            linear[name] = list(module.weight.shape)
        elif not isinstance(module, nn.Linear):
            own = dict(stock[name].named_parameters(recurse=False))
            for key, tensor in module.named_parameters(recurse=False):
                if tensor.shape != own[key].shape:
                    parameters[f"{name}.{key}"] = list(tensor.shape)
    for group in spec.units:
        for attribute in supernet.topology.by_name[group].attributes:
            if not supernet.topology.is_dropped(attribute.module, spec):
                name = renumber(attribute.module, supernet.topology, spec)
                attributes.setdefault(name, {})[attribute.name] = attribute.per_unit * spec.units[group]
    shared = list(shared_inputs(model, supernet, spec))
    table = {"modules": modules, "linear": linear, "parameters": parameters, "attributes": attributes, "shared": shared}
    model.config.slimformer = table
    model.config.auto_map = {auto: f"{CODE_FILE}.Slim{type(model).__name__}" for auto in auto_classes(model)}


def _borrow_(stock: dict[str, nn.Module], model: nn.Module) -> dict[str, str]:
    """Where the stock model has a module of another kind than a sub-network, as the first block of ModernBERT may have: the name
    of one of the right kind, which takes its place in `stock`.

    Raises: ExportError where it has none.
    """

    def kind(module: nn.Module) -> tuple[type, list[str]]:
        return type(module), [name for name, _ in module.named_parameters(recurse=False)]

    found: dict[str, str] = {}
    for name, module in model.named_modules():
        if name not in stock or kind(module) != kind(stock[name]):
            parent, _, leaf = name.rpartition(".")
            like = next((o for o, other in stock.items() if o.endswith(f".{leaf}") and kind(other) == kind(module)), None)
            if like is None or parent not in stock:
                raise ExportError(
                    f"{type(model).__name__} does not build {name!r} as this sub-network has it: keep the first block, or one more"
                )
            found[name] = like
            stock |= {name + rest: stock[like + rest] for rest in _inside(stock, like)}
    return found


def _inside(modules: dict[str, nn.Module], name: str) -> list[str]:
    return [other.removeprefix(name) for other in modules if f"{other}.".startswith(f"{name}.")]


def shared_inputs(
    model: nn.Module, supernet: SuperNet, spec: SubnetSpec, *, moved: bool = False
) -> Iterator[tuple[str, str, int, list[int]]]:
    """Each input of which a module picks some entries, as `resize_layers_` wants it; with `moved`, those not left as they are.

    The places become part of the state dict, since transformers does not fill other buffers.
    """
    for name in spec.units:
        group = supernet.topology.by_name[name]
        for shared in group.shared:
            module = renumber(shared.module, supernet.topology, spec)
            owner = model.get_submodule(module)
            places = owner.get_buffer(shared.buffer).clone()
            if not moved:
                setattr(owner, shared.buffer, places)
                owner._non_persistent_buffers_set.discard(shared.buffer)
            if not moved or places.tolist() != list(range(group.num_units)):
                yield module, shared.argument, shared.dim, places.tolist()


def auto_classes(model: nn.Module) -> list[str]:
    """The transformers `Auto...` classes that load models of this class."""
    from transformers.models.auto import modeling_auto

    found = []
    for name, auto in vars(modeling_auto).items():
        mapping = getattr(auto, "_model_mapping", None)
        if inspect.isclass(auto) and mapping is not None and type(model.config) in mapping:
            classes = mapping[type(model.config)]
            if type(model) in (classes if isinstance(classes, list | tuple) else (classes,)):
                found.append(name)
    return found
