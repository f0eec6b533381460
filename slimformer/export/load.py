"""Load an exported sub-network without running code from its folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from slimformer.errors import ExportError
from slimformer.supernet import resize


def from_pretrained(folder: str | Path) -> nn.Module:
    """Load an exported sub-network without running code from its folder.

    Raises: ExportError where the folder does not hold an exported model.
    """
    import transformers

    try:
        config = transformers.AutoConfig.from_pretrained(folder, trust_remote_code=False)
        base = getattr(transformers, (config.architectures or [""])[0].removeprefix("Slim"))
        cls: Any = slim_class(base) if getattr(config, "slimformer", None) else base
        return cls.from_pretrained(folder, config=config).eval()
    except Exception as error:  # json, safetensors and the hub each have their own
        reason = str(error).strip().partition("\n")[0]
        raise ExportError(f"{folder} holds no exported model ({reason}): give a folder made by 'slimformer export'") from error


def slim_class(base: type) -> type:
    """The subclass of a stock model class that reads its layers' shapes from `config.slimformer`."""

    def __init__(self: Any, config: Any, *args: Any, **kwargs: Any) -> None:
        base.__init__(self, config, *args, **kwargs)  # type: ignore[misc]
        resize.resize_layers_(self, config.slimformer)

    return type(f"Slim{base.__name__}", (base,), {"__init__": __init__, "__module__": base.__module__})
