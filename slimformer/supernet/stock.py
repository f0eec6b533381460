"""Compare a sub-network with the stock model that its class builds from its configuration."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypedDict

import torch
from torch import nn

from slimformer.errors import ExportError, first_line
from slimformer.supernet.clone import renumber
from slimformer.supernet.config_fields import read_field
from slimformer.supernet.resize import keep_blocks_, swap_fields_
from slimformer.supernet.slim_class import stock_class
from slimformer.supernet.spec import SubnetSpec
from slimformer.supernet.topology import Topology

if TYPE_CHECKING:
    from transformers import PretrainedConfig

NOTHING: Mapping[str, Any] = MappingProxyType({})

SharedRow = tuple[str, str, int, list[int]]
"""Module, argument, dimension and places of an input of which the module takes some entries."""


class KeptBlocks(TypedDict):
    """The blocks of a stock model's list that a sub-network has; the other fields are those of `keep_blocks_`."""

    kept: list[int]
    index: str
    inherited: list[str]


class SlimTable(TypedDict):
    """`config.slimformer`, as `resize_layers_` reads it.

    build: fields of the configuration, by dotted names, that are others while the stock model is built.
    """

    build: dict[str, Any]
    blocks: dict[str, KeptBlocks]
    modules: dict[str, str]
    linear: dict[str, list[int]]
    parameters: dict[str, list[int]]
    attributes: dict[str, dict[str, float]]
    shared: list[SharedRow]


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


def rebuild(model: nn.Module, build: Mapping[str, Any] = NOTHING) -> nn.Module:
    """The stock model of a configuration as it is saved and loaded again, without memory for its weights.

    build: fields that are others while it is built.
    """
    config = read_config(model)
    config.validate()
    table = config.to_dict()
    table.pop("slimformer", None)
    loaded = type(config).from_dict(table)
    loaded._attn_implementation = config._attn_implementation
    before = swap_fields_(loaded, dict(build))
    with torch.device("meta"):
        rebuilt: nn.Module = stock_class(model)(loaded)
    swap_fields_(loaded, before)
    return rebuilt


def differences(
    model: nn.Module, full: nn.Module, topology: Topology, spec: SubnetSpec, before: Mapping[str, Any]
) -> SlimTable:
    """Where a sub-network differs from the stock model of its configuration.

    before: `config.slimformer` of the full model, if that was a sub-network itself.
    Raises: ExportError where the stock class does not build one of its modules.
    """
    build, blocks, modules = _stock_modules(model, full, topology, spec, before)
    borrowed = _borrow_(modules, model)
    linear, parameters = _shape_differences(modules, model)
    return {
        "build": build,
        "blocks": blocks,
        "modules": borrowed,
        "linear": linear,
        "parameters": parameters,
        "attributes": _attribute_differences(modules, model, attributes_of(model, topology, spec)),
        "shared": list(shared_inputs(model, topology, spec)),
    }


def _stock_modules(
    model: nn.Module, full: nn.Module, topology: Topology, spec: SubnetSpec, before: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, KeptBlocks], dict[str, nn.Module]]:
    """The stock model's modules, the blocks that were taken off it, and the fields with which it was built.

    A block may be of a kind that a stock model of that depth does not have there (ModernBERT's first block lacks a norm): then
    the stock model is built as deep as the full one.
    """
    builds = (before.get("build") or {}, _depth_fields(full, topology))
    made = []
    for build in builds:
        stock = rebuild(model, build)
        blocks = _keep_blocks_(stock, model, topology, spec, before)
        modules = dict(stock.named_modules())
        made.append((dict(build), blocks, modules))
        if all(name in modules and _kind(module) == _kind(modules[name]) for name, module in model.named_modules()):
            return made[-1]
    return made[0]


def _kind(module: nn.Module) -> tuple[type, list[str]]:
    return stock_class(module), [name for name, _ in module.named_parameters(recurse=False)]


def _depth_fields(full: nn.Module, topology: Topology) -> dict[str, Any]:
    """The fields of a full model's configuration that say how many blocks it has, and what kinds they are."""
    fields = [f for stack in topology.stacks for f in (stack.config_field, *stack.config_lists, *stack.config_indices) if f]
    return {field: read_field(read_config(full), field) for field in fields}


def _shape_differences(stock: Mapping[str, nn.Module], model: nn.Module) -> tuple[dict[str, list[int]], dict[str, list[int]]]:
    """The linear layers, and the other parameters, whose shapes are not the stock model's, with their shapes."""
    linear: dict[str, list[int]] = {}
    parameters: dict[str, list[int]] = {}
    for name, module in model.named_modules():
        own = dict(stock[name].named_parameters(recurse=False))
        for key, tensor in module.named_parameters(recurse=False):
            if tensor.shape != own[key].shape:
                if isinstance(module, nn.Linear):
                    linear[name] = list(module.weight.shape)
                else:
                    parameters[f"{name}.{key}" if name else key] = list(tensor.shape)
    return linear, parameters


def numbers_of(module: nn.Module) -> dict[str, float]:
    """The real numbers that a module keeps as attributes and that its output may depend on, such as a scale.

    Some are made from a block's index when the model is built (GPT-2 may scale attention by it), which changes when other blocks
    are dropped. Integers are sizes, which many modules keep without reading them; rates of dropout change no output.
    """
    kept = {name: value for name, value in vars(module).items() if type(value) is float and not name.startswith("_")}
    return {name: value for name, value in kept.items() if "drop" not in name and not isinstance(module, nn.Dropout)}


def _attribute_differences(
    stock: Mapping[str, nn.Module], model: nn.Module, declared: Mapping[str, Mapping[str, float]]
) -> dict[str, dict[str, float]]:
    """The attributes that a topology names, and the real numbers in which a sub-network's modules are not the stock ones."""
    found = {name: dict(values) for name, values in declared.items()}
    for name, module in model.named_modules():
        built = numbers_of(stock[name])
        other = {key: value for key, value in numbers_of(module).items() if built.get(key) != value}
        if other:
            found[name] = other | found.get(name, {})
    return found


def _keep_blocks_(
    stock: nn.Module, model: nn.Module, topology: Topology, spec: SubnetSpec, before: Mapping[str, Any]
) -> dict[str, KeptBlocks]:
    """Take the blocks that a sub-network lacks off the stock model where its configuration has no number of blocks."""
    found: dict[str, KeptBlocks] = {}
    for stack in topology.stacks:
        built = len(list(stock.get_submodule(stack.path).children()))
        if built == len(list(model.get_submodule(stack.path).children())):
            continue
        earlier = before.get("blocks", {}).get(stack.path)  # 0.1 wrote no blocks
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

    Replaces the entries in `stock` in place.
    Raises: ExportError where no stock module is of the class.
    """

    found: dict[str, str] = {}
    for name, module in model.named_modules():
        if name not in stock or _kind(module) != _kind(stock[name]):
            parent, _, leaf = name.rpartition(".")
            like = next((o for o, other in stock.items() if o.endswith(f".{leaf}") and _kind(other) == _kind(module)), None)
            if like is None or parent not in stock:
                raise ExportError(
                    f"{type(model).__name__} does not build {name!r} as this sub-network has it: keep the first block, or one more"
                )
            found[name] = like
            stock |= {name + rest: stock[like + rest] for rest in _inside(stock, like)}
    return found


def _inside(modules: dict[str, nn.Module], name: str) -> list[str]:
    return [other.removeprefix(name) for other in modules if f"{other}.".startswith(f"{name}.")]


def attributes_of(model: nn.Module, topology: Topology, spec: SubnetSpec) -> dict[str, dict[str, int]]:
    """The attributes that a topology names, as a sub-network has them."""
    found: dict[str, dict[str, int]] = {}
    for group in spec.units:
        for attribute in topology.by_name[group].attributes:
            if not topology.is_dropped(attribute.module, spec):
                name = renumber(attribute.module, topology, spec)
                value = read_field(model.get_submodule(name), attribute.name)
                found.setdefault(name, {})[attribute.name] = value
    return found


def shared_inputs(model: nn.Module, topology: Topology, spec: SubnetSpec, *, only_moved: bool = False) -> Iterator[SharedRow]:
    """Each input of which a module takes some entries; with `only_moved`, those whose entries are not all taken in order."""
    for name in spec.units:
        group = topology.by_name[name]
        for shared in group.shared:
            module = renumber(shared.module, topology, spec)
            places = model.get_submodule(module).get_buffer(shared.buffer).tolist()
            if not only_moved or places != list(range(group.num_units)):
                yield module, shared.argument, shared.dim, places
