"""Load saved sub-networks without running code from their folders."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from slimformer.errors import ExportError, first_line
from slimformer.supernet.slim_class import is_in_transformers, slim_class, stock_class
from slimformer.supernet.stock import read_config

if TYPE_CHECKING:
    from transformers import PretrainedConfig


def from_pretrained(
    folder: str | Path, model_class: type[nn.Module] | None = None, *, attention: str = "", poisoned: bool = False
) -> nn.Module:
    """Load an extracted or exported sub-network, in eval mode, without running code from its folder.

    model_class: the class of the model that was made elastic; needed where transformers does not have it.
    attention: "eager" or "sdpa"; transformers' choice if empty.
    poisoned: fill every tensor with NaN before the weights are read, so that none can be left at a random start.
    Raises: ExportError where the folder does not hold such a model, or where its weights lack tensors of the model, have
        others besides, or have other shapes.

    >>> model = slimformer.from_pretrained("small")
    """
    import transformers

    try:
        if model_class is None:
            config = transformers.AutoConfig.from_pretrained(folder, trust_remote_code=False)
        else:
            config = getattr(model_class, "config_class").from_pretrained(folder)  # noqa: B009
        cls: Any = class_for(config, model_class)
        options = {"config": config, "ignore_mismatched_sizes": True, "output_loading_info": True}
        options |= {"attn_implementation": attention} if attention else {}
        with _without_report():
            model, report = (_poisoned(cls) if poisoned else cls).from_pretrained(folder, **options)
            if _lacks_a_pooler(report, model):
                model, report = (_poisoned(cls) if poisoned else cls).from_pretrained(
                    folder, add_pooling_layer=False, **options
                )
        check_complete(report)
    except Exception as error:  # json, safetensors and the hub each have their own
        reason = str(error) if isinstance(error, ExportError) else first_line(error)
        raise ExportError(f"{folder} holds no exported model ({reason}): give a folder made by 'slimformer export'") from error
    loaded: nn.Module = model.eval()
    return loaded


def _lacks_a_pooler(report: Mapping[str, Any], model: nn.Module) -> bool:
    """Whether a body was saved without its pooler, which its configuration does not say."""
    missing = list(report["missing_keys"])
    takes = any("add_pooling_layer" in signature(cls.__init__).parameters for cls in type(model).__mro__[:-1])  # type: ignore[misc]
    return bool(missing) and takes and all(key.startswith("pooler.") for key in missing)


@contextmanager
def _without_report() -> Iterator[None]:
    """Meanwhile transformers logs no table of the keys that do not fit: the error names them."""
    logger = logging.getLogger("transformers.modeling_utils")
    logger.addFilter(_is_no_report)
    try:
        yield
    finally:
        logger.removeFilter(_is_no_report)


def _is_no_report(record: logging.LogRecord) -> bool:
    return "LOAD REPORT" not in record.getMessage()


def load_again(model: nn.Module, folder: str | Path) -> nn.Module:
    """What a model of transformers saved, loaded strictly into memory full of NaN, with the model's own kernels.

    Raises: ExportError as `from_pretrained`.
    """
    base, config = stock_class(model), read_config(model)
    attention = getattr(config, "_attn_implementation", None) or ""
    loaded = from_pretrained(folder, None if is_in_transformers(base) else base, attention=attention, poisoned=True)
    experts = getattr(config, "_experts_implementation", None)
    if experts:
        loaded.set_experts_implementation(experts)  # type: ignore[operator]
    return loaded


def class_for(config: PretrainedConfig, model_class: type[nn.Module] | None = None) -> type[nn.Module]:
    """The class of the model that a configuration describes: a stock one, or the slim class of one.

    Raises: ExportError where transformers has no class of that name and none is given.
    """
    import transformers

    name = (config.architectures or [""])[0].removeprefix("Slim")  # folders of slimformer 0.1 name SlimX
    base: type | None = model_class or getattr(transformers, name, None)
    if base is None:
        raise ExportError(
            f"transformers has no class {name!r}; pass the model's own class, as in from_pretrained(folder, {name or 'MyModel'})"
        )
    return slim_class(base) if getattr(config, "slimformer", None) else base


def check_complete(report: Mapping[str, Any]) -> None:
    """Check what transformers reports of loading a folder's weights.

    Raises: ExportError naming the tensors that are missing, that the model does not have, or that have another shape.
    """
    misshapen = [key if isinstance(key, str) else key[0] for key in report["mismatched_keys"]]
    kinds = {"missing": report["missing_keys"], "unexpected": report["unexpected_keys"], "misshapen": misshapen}
    wrong = [f"{kind}: {_few(sorted(keys))}" for kind, keys in kinds.items() if keys]
    if wrong:
        raise ExportError(f"its weights are not those of the model that config.json describes; {'; '.join(wrong)}")


def _few(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def poison_(tensors: Mapping[str, Tensor]) -> None:
    """Fill tensors in place with NaN, those of integers with their largest number."""
    with torch.no_grad():
        for tensor in tensors.values():
            if tensor.is_floating_point():
                tensor.fill_(torch.nan)
            elif tensor.dtype not in (torch.bool, torch.complex64):
                tensor.fill_(torch.iinfo(tensor.dtype).max)


def _poisoned(cls: Any) -> Any:
    """A class of transformers under its own name that leaves NaN in whatever `from_pretrained` does not read from files."""

    def _initialize_missing_keys(self: Any, is_quantized: bool) -> None:
        drawn = [name for name, tensor in self.state_dict(keep_vars=True).items() if not is_loaded(tensor)]
        cls._initialize_missing_keys(self, is_quantized)
        poison_({name: tensor for name, tensor in self.state_dict().items() if name in drawn})

    def is_loaded(tensor: Tensor) -> bool:
        return bool(getattr(tensor, "_is_hf_initialized", False))

    return type(cls.__name__, (cls,), {"_initialize_missing_keys": _initialize_missing_keys, "__module__": cls.__module__})
