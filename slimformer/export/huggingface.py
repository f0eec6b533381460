"""Writes a sub-network as a folder that transformers loads, and loads such folders."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import nn

from slimformer.errors import ExportError
from slimformer.export.load import from_pretrained
from slimformer.export.modeling_code import modeling_code
from slimformer.files import write_whole, writing
from slimformer.supernet.configuration import (
    CODE_FILE,
    configure_,
    describe_,
    restore_orders_,
    shared_inputs,
)
from slimformer.supernet.forward import logits_of
from slimformer.supernet.network import SuperNet
from slimformer.supernet.outputs import Batch
from slimformer.supernet.spec import SubnetSpec


def export(supernet: SuperNet, spec: SubnetSpec, processor: Any, example: Batch, folder: Path) -> bool:
    """Write a sub-network with its tokenizer, and check that the folder loads to the same outputs.

    Where the model's own class can be configured to the sub-network's shapes the folder is a stock one. Otherwise it holds
    stock weights, the shapes in `config.slimformer`, and one file of code that needs transformers alone
    (`AutoModel....from_pretrained(folder, trust_remote_code=True)`, or `slimformer.load(folder)`).

    Returns: whether the folder is a stock one.
    Raises: ExportError where what loads differs from the sub-network; nothing is written then.
    """
    model = supernet.extract(spec).cpu().eval()
    restore_orders_(model, supernet, spec)
    is_stock = configure_(model, supernet, spec) and not any(shared_inputs(model, supernet, spec, moved=True))
    if not is_stock:
        describe_(model, supernet, spec)

    def save(partial: Path) -> None:
        model.save_pretrained(partial)  # type: ignore[operator]
        if processor is not None:
            processor.save_pretrained(partial)
        if not is_stock:
            (partial / f"{CODE_FILE}.py").write_text(modeling_code(type(model)), encoding="utf-8")
        (partial / "subnet.json").write_text(json.dumps(spec.to_json(), indent=2), encoding="utf-8")
        _check_same(model, from_pretrained(partial), example)

    with writing(folder):
        write_whole(folder, save)
    return is_stock


def _check_same(model: nn.Module, loaded: nn.Module, example: Batch) -> None:
    try:
        with torch.no_grad():
            wanted, found = logits_of(model(**example)), logits_of(loaded(**example))
    except RuntimeError as error:  # a kernel may refuse sizes: that of stacked experts takes those that fill 16 bytes
        raise ExportError(
            f"the exported model does not run: {str(error).strip().partition(chr(10))[0]}; nothing was written"
        ) from error
    for one, other in zip(wanted, found, strict=True):
        off, most = float((one - other).abs().max()), float(one.abs().max())
        if not off <= max(1e-5, 4 * torch.finfo(one.dtype).eps) * most:
            raise ExportError(f"the exported model's logits differ by {off:.2g}; nothing was written")
