"""Sub-networks of plain modules: a file of weights and a spec, which load into an extraction of the same spec."""

from __future__ import annotations

import json
from pathlib import Path

from torch import nn

from slimformer.errors import ExportError, SlimformerError, first_line
from slimformer.export.load import poison_
from slimformer.supernet.network import SuperNet
from slimformer.supernet.spec import SubnetSpec

SPEC_FILE, WEIGHTS_FILE = "subnet.json", "model.safetensors"


def save_plain(model: nn.Module, spec: SubnetSpec, folder: Path) -> None:
    """Write an extraction's state dict, tied tensors once, and its spec."""
    from safetensors.torch import save_model

    folder.mkdir(parents=True, exist_ok=True)
    save_model(model, str(folder / WEIGHTS_FILE))
    (folder / SPEC_FILE).write_text(json.dumps(spec.to_json(), indent=2), encoding="utf-8")


def load_into(supernet: SuperNet, folder: str | Path) -> nn.Module:
    """Load an exported sub-network of a plain module (no model of transformers), in eval mode.

    supernet: one over a module of the same class and sizes as the exported one's; its weights are not read or changed.
    Raises: ExportError where the folder does not hold a sub-network of it.

    >>> model = load_into(SuperNet(MyModel(), topology), "small")
    """
    from safetensors.torch import load_model

    try:
        spec = SubnetSpec.from_json(json.loads((Path(folder) / SPEC_FILE).read_text(encoding="utf-8")))
        supernet.topology.validate(spec)
        model = supernet.extract(spec)
        poison_(model.state_dict())
        load_model(model, str(Path(folder) / WEIGHTS_FILE), strict=True)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError, SlimformerError) as error:
        raise ExportError(
            f"{folder} holds no sub-network of this {type(supernet.model).__name__} ({' '.join(first_line(error).split())}): "
            "give a folder made by slimformer.export.export, and a super-network of the same class and sizes"
        ) from error
    return model.eval()
