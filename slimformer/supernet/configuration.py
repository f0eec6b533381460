"""Write a sub-network's shapes into its model's configuration, so that what the model's class saves loads to the same function."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, TypedDict

import torch
from torch import nn

from slimformer.errors import ExportError, first_line
from slimformer.supernet.clone import renumber
from slimformer.supernet.config_fields import read_field, write_field_
from slimformer.supernet.resize import keep_blocks_
from slimformer.supernet.slim_class import CODE_FILE, is_in_transformers, slim_class, stock_class
from slimformer.supernet.spec import SubnetSpec
from slimformer.supernet.topology import Topology

if TYPE_CHECKING:
    from transformers import PretrainedConfig

SharedRow = tuple[str, str, int, list[int]]
"""Module, argument, dimension and places of an input of which the module takes some entries."""


class KeptBlocks(TypedDict):
    """The blocks of a stock model's list that a sub-network has; the other fields are those of `keep_blocks_`."""

    kept: list[int]
    index: str
    inherited: list[str]


class SlimTable(TypedDict):
    """`config.slimformer`, as `resize_layers_` reads it."""

    blocks: dict[str, KeptBlocks]
    modules: dict[str, str]
    linear: dict[str, list[int]]
    parameters: dict[str, list[int]]
    attributes: dict[str, dict[str, int]]
    shared: list[SharedRow]


def configure_(model: nn.Module, topology: Topology, spec: SubnetSpec) -> None:
    """Make an extraction one that saves and loads as what it is.

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
    before: SlimTable | None = config.__dict__.pop("slimformer", None)
    if before:
        config.__dict__.pop("auto_map", None)
    model.__class__ = base
    if _fits_stock(model, topology, spec) and not any(_shared_inputs(model, topology, spec, only_moved=True)):
        return
    _persist_shared_(model, topology, spec)
    if not can_be_rebuilt(model):
        return
    try:
        config.slimformer = _differences(model, topology, spec, before)
    except ExportError as error:
        config.slimformer = {"error": str(error)}
    if is_in_transformers(base):
        config.auto_map = dict.fromkeys(auto_classes(model), f"{CODE_FILE}.{base.__name__}")
    model.__class__ = slim_class(base)


def read_config(model: nn.Module) -> PretrainedConfig:
    """A transformers model's configuration."""
    config: PretrainedConfig = model.config  # type: ignore[assignment]
    return config


def is_of_transformers(model: nn.Module) -> bool:
    """Whether a model is a `PreTrainedModel` of transformers, its own class or another's."""
    from transformers import PreTrainedModel

    return isinstance(model, PreTrainedModel)


def can_be_rebuilt(model: nn.Module) -> bool:
    """Whether a model is one of transformers' kind that its class builds from its configuration alone."""
    if not is_of_transformers(model):
        return False
    try:
        rebuild(model)
    except Exception:  # a constructor of anyone's
        return False
    return True


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
        fits = _shapes(model) == _shapes(stock) and _attributes(model, topology, spec) == _attributes(stock, topology, spec)
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


def rebuild(model: nn.Module) -> nn.Module:
    """The stock model of a configuration as it is saved and loaded again, without memory for its weights."""
    config = read_config(model)
    config.validate()
    table = config.to_dict()
    table.pop("slimformer", None)
    loaded = type(config).from_dict(table)
    loaded._attn_implementation = config._attn_implementation
    with torch.device("meta"):
        rebuilt: nn.Module = stock_class(model)(loaded)
        return rebuilt


def _shapes(model: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}


def _attributes(model: nn.Module, topology: Topology, spec: SubnetSpec) -> dict[str, dict[str, int]]:
    """The attributes that a topology names, as a sub-network has them."""
    found: dict[str, dict[str, int]] = {}
    for group in spec.units:
        for attribute in topology.by_name[group].attributes:
            if not topology.is_dropped(attribute.module, spec):
                name = renumber(attribute.module, topology, spec)
                value = read_field(model.get_submodule(name), attribute.name)
                found.setdefault(name, {})[attribute.name] = value
    return found


def _differences(model: nn.Module, topology: Topology, spec: SubnetSpec, before: SlimTable | None) -> SlimTable:
    """Where a sub-network differs from the stock model of its configuration.

    before: `config.slimformer` of the model from which the sub-network was cut, if that was one itself.
    """
    stock = rebuild(model)
    blocks = _keep_blocks_(stock, model, topology, spec, before)
    modules = dict(stock.named_modules())
    borrowed = _borrow_(modules, model)
    linear: dict[str, list[int]] = {}
    parameters: dict[str, list[int]] = {}
    for name, module in model.named_modules():
        own = dict(modules[name].named_parameters(recurse=False))
        for key, tensor in module.named_parameters(recurse=False):
            if tensor.shape != own[key].shape:
                if isinstance(module, nn.Linear):
                    linear[name] = list(module.weight.shape)
                else:
                    parameters[f"{name}.{key}" if name else key] = list(tensor.shape)
    return {
        "blocks": blocks,
        "modules": borrowed,
        "linear": linear,
        "parameters": parameters,
        "attributes": _attributes(model, topology, spec),
        "shared": list(_shared_inputs(model, topology, spec)),
    }


def _keep_blocks_(
    stock: nn.Module, model: nn.Module, topology: Topology, spec: SubnetSpec, before: SlimTable | None
) -> dict[str, KeptBlocks]:
    """Take the blocks that a sub-network lacks off the stock model where its configuration has no number of blocks."""
    found: dict[str, KeptBlocks] = {}
    for stack in topology.stacks:
        built = len(list(stock.get_submodule(stack.path).children()))
        if built == len(list(model.get_submodule(stack.path).children())):
            continue
        earlier = before["blocks"].get(stack.path) if before and "blocks" in before else None  # 0.1 wrote no blocks
        kept = [earlier["kept"][block] if earlier else block for block in spec.blocks[stack.name]]
        found[stack.path] = {"kept": kept, "index": stack.index_attribute, "inherited": list(stack.inherited)}
        try:
            keep_blocks_(stock, stack.path, kept, stack.index_attribute, list(stack.inherited))
        except (AttributeError, IndexError) as error:
            raise ExportError(
                f"{type(model).__name__} does not build the blocks of {stack.path!r} that this sub-network has "
                f"({first_line(error)}): give the stack a config_field in the backbone's topology"
            ) from error
    return found


def _borrow_(stock: dict[str, nn.Module], model: nn.Module) -> dict[str, str]:
    """Map each module whose class differs from the stock model's to a stock module of the right class.

    ModernBERT's first block, for one, lacks a norm that the others have. Replaces the entries in `stock` in place.
    Raises: ExportError where no stock module is of the class.
    """

    def kind(module: nn.Module) -> tuple[type, list[str]]:
        return stock_class(module), [name for name, _ in module.named_parameters(recurse=False)]

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


def _shared_inputs(model: nn.Module, topology: Topology, spec: SubnetSpec, *, only_moved: bool = False) -> Iterator[SharedRow]:
    """Each input of which a module takes some entries; with `only_moved`, those whose entries are not all taken in order."""
    for name in spec.units:
        group = topology.by_name[name]
        for shared in group.shared:
            module = renumber(shared.module, topology, spec)
            places = model.get_submodule(module).get_buffer(shared.buffer).tolist()
            if not only_moved or places != list(range(group.num_units)):
                yield module, shared.argument, shared.dim, places


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
