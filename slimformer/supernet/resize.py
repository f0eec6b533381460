"""Resize a freshly built model to the shapes of a sub-network. Folders of resized models carry a copy of this code."""

from __future__ import annotations

import copy

import torch
from torch import nn


def resize_layers_(model: nn.Module, table: dict) -> None:
    """Give a freshly built stock model the layers of a sub-network, before its weights are loaded.

    table: `config.slimformer`, with these keys, each of which may be missing ("build" is for `swap_fields_`):
        "blocks": path of a block list -> {"kept": indices, "index": attribute that holds a block's index, "inherited": members};
        "modules": module -> another module of the model, of which it becomes a copy;
        "linear": module -> [out_features, in_features];
        "parameters": parameter -> shape;
        "attributes": module -> {name: value};
        "shared": [module, argument, dimension, places] for each input of which a module takes some entries.
    """
    for path, stack in table.get("blocks", {}).items():
        keep_blocks_(model, path, stack["kept"], stack["index"], stack["inherited"])
    for name, like in table.get("modules", {}).items():
        parent, _, leaf = name.rpartition(".")
        setattr(model.get_submodule(parent), leaf, copy.deepcopy(model.get_submodule(like)))
    for name, (rows, columns) in table.get("linear", {}).items():
        old = model.get_submodule(name)
        new = nn.Linear(columns, rows, bias=old.bias is not None, device=old.weight.device, dtype=old.weight.dtype)
        parent, _, leaf = name.rpartition(".")
        setattr(model.get_submodule(parent), leaf, new)
    for name, shape in table.get("parameters", {}).items():
        parent, _, leaf = name.rpartition(".")
        empty = model.get_parameter(name).new_empty(shape)
        setattr(model.get_submodule(parent), leaf, nn.Parameter(empty))
        follow_shapes_(model.get_submodule(parent))
    for name, argument, dim, places in table.get("shared", []):
        gather_input_(model.get_submodule(name), argument, dim, places)
    for name, values in table.get("attributes", {}).items():
        for attribute, value in values.items():
            set_attribute_(model.get_submodule(name), attribute, value)
    tie = getattr(model, "tie_weights", None)
    if callable(tie):
        tie()


def swap_fields_(config: object, fields: dict) -> dict:
    """Set fields of a configuration, by dotted names, for as long as a model is built; returns what they were before."""
    before = {}
    for name, value in fields.items():
        *path, leaf = name.split(".")
        owner = config
        for part in path:
            owner = owner[part] if isinstance(owner, dict) else getattr(owner, part)
        if isinstance(owner, dict):
            before[name], owner[leaf] = owner.get(leaf), value
        else:
            before[name] = getattr(owner, leaf, None)
            setattr(owner, leaf, value)
    return before


def keep_blocks_(model: nn.Module, path: str, kept: list, index_attribute: str, inherited: list) -> None:
    """Remove the blocks of a list that a sub-network does not have; the remaining ones count from 0.

    inherited: members of the first block that the first remaining one takes over.
    """
    stack = model.get_submodule(path)
    blocks = list(stack.children())
    if 0 not in kept:
        for member in inherited:
            owner, _, leaf = member.rpartition(".")
            setattr(blocks[kept[0]].get_submodule(owner), leaf, getattr(blocks[0].get_submodule(owner), leaf))
    stack._modules.clear()
    for new, old in enumerate(kept):
        stack.add_module(str(new), blocks[old])
        for module in blocks[old].modules():
            if index_attribute in vars(module):
                setattr(module, index_attribute, new)


def follow_shapes_(module: nn.Module) -> None:
    """Set a layer's attributes to the shape of its weight."""
    if isinstance(module, nn.Linear):
        module.out_features, module.in_features = module.weight.shape
    elif isinstance(module, nn.Embedding):
        module.num_embeddings, module.embedding_dim = module.weight.shape
    elif isinstance(module, (nn.LayerNorm, nn.RMSNorm)) and module.weight is not None:
        module.normalized_shape = tuple(module.weight.shape)


def set_attribute_(module: nn.Module, name: str, value: object) -> None:
    """Set a module's attribute; with a dotted name, an attribute of one, of which the module then has its own copy."""
    owner, _, leaf = name.rpartition(".")
    if owner:
        setattr(module, owner, copy.copy(getattr(module, owner)))
    setattr(getattr(module, owner) if owner else module, leaf, value)


class GatherInput:
    """A forward pre-hook that selects some entries of one argument, at the places in its module's buffer."""

    def __init__(self, argument: str, dim: int) -> None:
        self.argument = argument
        self.dim = dim

    def __call__(self, module: nn.Module, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
        places = getattr(module, f"{self.argument}_units")
        given = kwargs.get(self.argument)
        if given is None:
            return args, kwargs
        return args, kwargs | {self.argument: given.index_select(self.dim, places.to(given.device))}


def gather_input_(module: nn.Module, argument: str, dim: int, places: list[int]) -> None:
    """Let a module take the entries at `places` of a keyword argument."""
    module.register_buffer(f"{argument}_units", torch.tensor(places, device="cpu"))
    module.register_forward_pre_hook(GatherInput(argument, dim), with_kwargs=True)
