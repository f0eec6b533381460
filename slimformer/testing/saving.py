"""Save a sub-network as a user would, and load it again."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import nn

from slimformer.export.load import load_again, poison_
from slimformer.supernet.spec import SubnetSpec
from slimformer.supernet.stock import can_be_rebuilt
from slimformer.testing.cases import Case


def spec_of_each_kind(case: Case) -> list[SubnetSpec]:
    """The first spec of each kind in a case: with or without all units, all blocks, the same share in all groups of an axis."""
    kinds: dict[tuple[bool, bool, bool], SubnetSpec] = {}
    for spec in case.specs:
        shares: dict[str, set[float]] = {}
        for name, units in spec.units.items():
            group = case.topology.by_name[name]
            shares.setdefault(group.axis, set()).add(units / group.num_units)
        is_narrow = any(share != {1.0} for share in shares.values())
        is_short = any(len(spec.blocks[stack.name]) < stack.num_blocks for stack in case.topology.stacks)
        is_uniform = all(len(share) == 1 for share in shares.values())
        kinds.setdefault((is_narrow, is_short, is_uniform), spec)
    return list(kinds.values())


def saved_and_loaded(case: Case, model: nn.Module, spec: SubnetSpec) -> nn.Module:
    """What an extraction is after it was saved and loaded into memory full of NaN, strictly."""
    with tempfile.TemporaryDirectory() as folder:
        if can_be_rebuilt(model):
            saved: Any = model
            saved.save_pretrained(folder)
            return load_again(model, folder)
        torch.save({"weights": model.state_dict(), "spec": spec.to_json()}, Path(folder) / "subnet.pt")
        read = torch.load(Path(folder) / "subnet.pt")
    supernet = case.new_supernet()
    poison_(supernet.state_dict())
    loaded = supernet.extract(SubnetSpec.from_json(read["spec"]))
    loaded.load_state_dict(read["weights"], strict=True)
    return loaded
