"""Model classes of sub-networks whose shapes their stock class cannot be configured to."""

from __future__ import annotations

import copyreg
import inspect
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slimformer.errors import ExportError
from slimformer.supernet import resize

if TYPE_CHECKING:
    from torch import nn
    from transformers import PretrainedConfig

CODE_FILE = "modeling_slimformer"
"""The module in a saved folder whose classes its configuration names."""

_PARTS = (
    resize.resize_layers_,
    resize.swap_fields_,
    resize.keep_blocks_,
    resize.follow_shapes_,
    resize.set_attribute_,
    resize.GatherInput,
    resize.gather_input_,
)


@cache
def slim_class(base: type) -> type:
    """The subclass of a transformers model class that reads its layers' shapes from `config.slimformer`.

    It bears the stock class's name, by which transformers finds what belongs to a class (how its weights are renamed when they
    are saved, say). Its `save_pretrained` adds the file of code with which the folder loads where slimformer is not installed.
    """

    stock: Any = base

    def __init__(self: Any, config: PretrainedConfig, *args: Any, **kwargs: Any) -> None:
        before = resize.swap_fields_(config, config.slimformer.get("build", {}))
        stock.__init__(self, config, *args, **kwargs)
        resize.swap_fields_(config, before)
        resize.resize_layers_(self, config.slimformer)

    def save_pretrained(self: Any, save_directory: str | Path, *args: Any, **kwargs: Any) -> None:
        if "error" in self.config.slimformer:
            raise ExportError(self.config.slimformer["error"])
        stock.save_pretrained(self, save_directory, *args, **kwargs)
        if is_in_transformers(base) and kwargs.get("is_main_process", True):
            (Path(save_directory) / f"{CODE_FILE}.py").write_text(modeling_code(base), encoding="utf-8")

    def __reduce_ex__(self: Any, protocol: Any) -> str | tuple[Any, ...]:
        made = stock.__reduce_ex__(self, protocol)
        if isinstance(made, tuple) and made[0] is copyreg.__newobj__:  # type: ignore[attr-defined]
            return (_new, (base,), *made[2:])
        return made

    members = {"__init__": __init__, "save_pretrained": save_pretrained, "__reduce_ex__": __reduce_ex__}
    return type(base.__name__, (base,), members | {"__module__": base.__module__, "slim_base": base})


def _new(base: type) -> Any:
    """An empty object of a slim class, for `copy` and `pickle`."""
    cls: Any = slim_class(base)
    return cls.__new__(cls)


def stock_class(model: nn.Module) -> type:
    """A model's own class, or for a slim class the one that it extends.

    A class that an exported folder's code file defines counts as slim, too.
    """
    cls = type(model)
    if getattr(getattr(model, "config", None), "slimformer", None) and cls.__module__.endswith(CODE_FILE):
        return cls.__mro__[1]
    base: type = getattr(cls, "slim_base", cls)
    return base


def is_in_transformers(cls: type) -> bool:
    """Whether `transformers.NAME` is this class."""
    import transformers

    return getattr(transformers, cls.__name__, None) is cls


def modeling_code(base: type) -> str:
    """The code file of a folder: `resize_layers_` and a subclass of a class of transformers."""
    name = base.__name__
    return (
        f'"""A sub-network cut out by slimformer: transformers\' {name} with narrower layers."""\n\n'
        "import copy\n\nimport torch\nimport transformers\nfrom torch import nn\n\n\n"
        + "\n\n".join(inspect.getsource(part) for part in _PARTS)
        + f"\n\nclass {name}(transformers.{name}):\n"
        "    def __init__(self, config, *args, **kwargs):\n"
        '        before = swap_fields_(config, config.slimformer.get("build", {}))\n'
        "        super().__init__(config, *args, **kwargs)\n"
        "        swap_fields_(config, before)\n"
        "        resize_layers_(self, config.slimformer)\n\n"
        "    @classmethod\n"
        "    def is_custom_code(cls):\n"
        "        return False  # its weights are named in the files as the stock class's are\n"
    )
