"""Write a sub-network's shapes into its model's configuration, so that what the model's class saves loads to the same function."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from torch import nn

from slimformer.errors import ExportError
from slimformer.supernet.clone import renumber
from slimformer.supernet.config_fields import read_field, write_field_
from slimformer.supernet.slim_class import CODE_FILE, is_in_transformers, slim_class, stock_class
from slimformer.supernet.spec import SubnetSpec
from slimformer.supernet.stock import (
    attributes_of,
    can_be_rebuilt,
    differences,
    is_of_transformers,
    numbers_of,
    read_config,
    rebuild,
    shared_inputs,
)
from slimformer.supernet.topology import Topology

if TYPE_CHECKING:
    from transformers import PretrainedConfig


def configure_(model: nn.Module, full: nn.Module, topology: Topology, spec: SubnetSpec) -> None:
    """Make an extraction one that saves and loads as what it is.

    full: the model from which it was cut.

    Where the stock class can be configured to the sub-network's shapes, its configuration says them and the model is of the
    stock class. Otherwise the configuration keeps the sizes of the full model and has the differences in `slimformer`, and the
    model becomes one of the class that reads them (`slim_class`).
    A module without a configuration of transformers, or that its configuration alone does not build, stays as it is: its
    weights load into an extraction of the same spec. Where the sub-network has a module that the stock class does not build,
    its `save_pretrained` raises ExportError.
    """
    restore_orders_(model, topology, spec)
    if not is_of_transformers(model):
        _persist_shared_(model, topology, spec)
        return
    base, config = stock_class(model), read_config(model)
    before: dict[str, Any] = config.__dict__.pop("slimformer", None) or {}
    if before:
        config.__dict__.pop("auto_map", None)
    model.__class__ = base
    if _fits_stock(model, topology, spec) and not any(shared_inputs(model, topology, spec, only_moved=True)):
        return
    _persist_shared_(model, topology, spec)
    if not can_be_rebuilt(model):
        return
    try:
        config.slimformer = differences(model, full, topology, spec, before)
    except ExportError as error:
        config.slimformer = {"error": str(error)}
    if is_in_transformers(base):
        config.auto_map = dict.fromkeys(auto_classes(model), f"{CODE_FILE}.{base.__name__}")
    model.__class__ = slim_class(base)


def restore_orders_(model: nn.Module, topology: Topology, spec: SubnetSpec) -> None:
    """Put the units that read a shared input back into that input's order where all remain: a stock class has no other."""
    for group in (topology.by_name[name] for name in spec.units):
        if not group.shared or spec.units[group.name] != group.num_units:
            continue
        readers = [model.get_submodule(renumber(shared.module, topology, spec)) for shared in group.shared]
        order = readers[0].get_buffer(group.shared[0].buffer).argsort()  # a slim model's places may lie apart
        for part in group.slices:
            weight = model.get_parameter(renumber(part.parameter, topology, spec)).detach()
            units = weight.narrow(part.dim, part.start, group.num_units * part.unit_size).unflatten(
                part.dim, (-1, part.unit_size)
            )
            units.copy_(units.index_select(part.dim, order))
        for reader, shared in zip(readers, group.shared, strict=True):
            places = reader.get_buffer(shared.buffer)
            places.copy_(places[order])


def _fits_stock(model: nn.Module, topology: Topology, spec: SubnetSpec) -> bool:
    """Write the sizes on which all groups of a configuration field agree; whether the stock class then has the model's shapes.

    Where it has not, the fields are as before: other code may derive a head's size, say, from the number of heads.
    """
    config = read_config(model)
    sizes: dict[str, set[int]] = {}
    for name, units in spec.units.items():
        for field, per_unit in topology.by_name[name].config:
            sizes.setdefault(field, set()).add(units * per_unit)
    before = {field: read_field(config, field) for field in sizes}
    fits = False
    try:
        for field, values in sizes.items():
            if len(values) == 1:
                write_field_(config, field, next(iter(values)))
        stock = rebuild(model)
        fits = (
            _shapes(model) == _shapes(stock)
            and attributes_of(model, topology, spec) == attributes_of(stock, topology, spec)
            and _numbers(model) == _numbers(stock)
        )
    except Exception:  # a configuration may forbid sizes, as hidden states that are no multiple of the heads
        fits = False
    if not fits:
        _write_back_(config, before)
    return fits


def _write_back_(config: PretrainedConfig, fields: dict[str, Any]) -> None:
    """Restore fields of a configuration that may check each value beside the others: what it refuses is tried again."""
    left = dict(fields)
    for _ in fields:
        for field, value in list(left.items()):
            try:
                write_field_(config, field, value)
            except Exception:  # it is refused beside a field that is not restored yet
                continue
            del left[field]


def _shapes(model: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}


def _numbers(model: nn.Module) -> dict[str, dict[str, float]]:
    return {name: numbers_of(module) for name, module in model.named_modules()}


def _persist_shared_(model: nn.Module, topology: Topology, spec: SubnetSpec) -> None:
    """Make the places in shared inputs part of the state dict: transformers fills no other buffers."""
    for name in spec.units:
        for shared in topology.by_name[name].shared:
            owner = model.get_submodule(renumber(shared.module, topology, spec))
            owner._non_persistent_buffers_set.discard(shared.buffer)


def auto_classes(model: nn.Module) -> list[str]:
    """The transformers `Auto...` classes that load models of this class."""
    from transformers.models.auto import modeling_auto

    found = []
    for name, auto in vars(modeling_auto).items():
        mapping = getattr(auto, "_model_mapping", None)
        if inspect.isclass(auto) and mapping is not None and type(read_config(model)) in mapping:
            classes = mapping[type(read_config(model))]
            if stock_class(model) in (classes if isinstance(classes, list | tuple) else (classes,)):
                found.append(name)
    return found
