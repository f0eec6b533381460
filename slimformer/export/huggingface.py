"""Write a sub-network as a folder that transformers loads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import nn

from slimformer.errors import ExportError
from slimformer.export.check import check_same
from slimformer.export.load import load_again
from slimformer.export.plain import SPEC_FILE, load_into, save_plain
from slimformer.files import write_whole, writing
from slimformer.supernet.network import SuperNet
from slimformer.supernet.outputs import Batch
from slimformer.supernet.slim_class import stock_class
from slimformer.supernet.spec import SubnetSpec
from slimformer.supernet.stock import can_be_rebuilt

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class Processor(Protocol):
    """A tokenizer or image processor of transformers."""

    def save_pretrained(self, save_directory: Path) -> object:
        """Write the processor's files."""
        ...


def export(
    supernet: SuperNet,
    spec: SubnetSpec,
    processor: Processor | None,
    example: Batch,
    folder: Path,
    dtype: torch.dtype | None = None,
) -> bool:
    """Write a sub-network with its tokenizer, and check that the folder loads to the same function.

    Where the model's own class can be configured to the sub-network's shapes the folder is a stock one. Otherwise it holds
    the weights, the shapes in `config.slimformer`, and one file of code that needs transformers alone
    (`AutoModel....from_pretrained(folder, trust_remote_code=True)`, or `slimformer.from_pretrained(folder)`).
    A model whose class is not one of transformers has no such file: `slimformer.from_pretrained(folder, TheClass)`.
    A module without `save_pretrained`, or that its configuration alone does not build, becomes a file of weights and a spec:
    `slimformer.export.load_into(SuperNet(module, topology), folder)`.

    processor: what is saved beside the weights, or None.
    example: inputs of the model; see `check_same` for what is compared.
    folder: an earlier export there is replaced once the new one is whole.
    dtype: the number type of the weights; the super-network's own if None.
    Returns: whether the folder is a stock one.
    Raises: ExportError where what loads differs from the sub-network; nothing is written then.
    """
    model = supernet.extract(spec).cpu().eval()
    if dtype is not None:
        _cast_(model, dtype)
    vars(getattr(model, "config", model)).pop("checkpoint_dtype", None)
    example = _cast_batch(example, next(model.parameters()).dtype)
    is_plain = not can_be_rebuilt(model)

    def save(partial: Path) -> None:
        loaded = _saved_plain(model, supernet, spec, partial) if is_plain else _saved(model, spec, partial)
        if processor is not None:
            processor.save_pretrained(partial)
        check_same(model, loaded, example)

    with writing(folder):
        write_whole(folder, save)
    return not is_plain and type(model) is stock_class(model)


def _saved(model: nn.Module, spec: SubnetSpec, folder: Path) -> nn.Module:
    transformers_model(model).save_pretrained(folder)
    (folder / SPEC_FILE).write_text(json.dumps(spec.to_json(), indent=2), encoding="utf-8")
    return load_again(model, folder)


def _saved_plain(model: nn.Module, supernet: SuperNet, spec: SubnetSpec, folder: Path) -> nn.Module:
    save_plain(model, spec, folder)
    return load_into(supernet, folder).cpu()


def dtype_of(supernet: SuperNet, name: str = "") -> torch.dtype | None:
    """The number type in which a sub-network of a run is exported: the named one, else that of the run's checkpoint.

    name: "float32", "float16", "bfloat16", or "" for the checkpoint's. None means that of the super-network.
    Raises: ExportError for another name.
    """
    known = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
    if name and name not in known:
        raise ExportError(f"there is no number type {name!r} for exports: write one of {', '.join(known)}")
    return known.get(name or getattr(getattr(supernet.model, "config", None), "checkpoint_dtype", ""))


def transformers_model(model: nn.Module) -> PreTrainedModel:
    """A module as the model of transformers that it is.

    Raises: ExportError where it is none.
    """
    from transformers import PreTrainedModel

    if not isinstance(model, PreTrainedModel):
        raise ExportError(f"{type(model).__name__} is no model of transformers: write it with slimformer.export.export")
    return model


def _cast_(model: nn.Module, dtype: torch.dtype) -> None:
    """Cast a model's weights; buffers, as rotary frequencies, keep their precision."""
    for parameter in model.parameters():
        if parameter.is_floating_point():
            parameter.data = parameter.data.to(dtype)


def _cast_batch(example: Batch, dtype: torch.dtype) -> dict[str, Any]:
    return {name: t.cpu().to(dtype) if t.is_floating_point() else t.cpu() for name, t in example.items()}
