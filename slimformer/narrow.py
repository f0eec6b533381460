"""Narrows a stock transformers model to the shapes of a sub-network. Exported models carry a copy of this code."""

from torch import nn


def narrow_(model: nn.Module, table: dict) -> None:
    """Give a freshly built stock model the layers of a sub-network, before its weights are loaded.

    table: "linear": module -> [out_features, in_features]; "attributes": module -> {name: value}.
    """
    for name, (rows, columns) in table["linear"].items():
        old = model.get_submodule(name)
        new = nn.Linear(columns, rows, bias=old.bias is not None, device=old.weight.device, dtype=old.weight.dtype)
        parent, _, leaf = name.rpartition(".")
        setattr(model.get_submodule(parent), leaf, new)
    for name, values in table["attributes"].items():
        for attribute, value in values.items():
            setattr(model.get_submodule(name), attribute, value)
