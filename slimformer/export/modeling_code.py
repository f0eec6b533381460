"""The code file of an exported folder that no stock class can load."""

from __future__ import annotations

import inspect

from slimformer.supernet import resize


def modeling_code(base: type) -> str:
    """The code that an exported folder carries: `resize_layers_` and a subclass of the stock class."""
    return (
        f'"""A sub-network cut out by slimformer: transformers\' {base.__name__} with narrower layers."""\n\n'
        f"import copy\n\nimport torch\nfrom torch import nn\nfrom transformers import {base.__name__}\n\n\n"
        f"{inspect.getsource(resize.resize_layers_)}\n\n"
        f"{inspect.getsource(resize.follow_shapes_)}\n\n"
        f"{inspect.getsource(resize.set_attribute_)}\n\n"
        f"{inspect.getsource(resize.GatherInput)}\n\n"
        f"{inspect.getsource(resize.gather_input_)}\n\n"
        f"class Slim{base.__name__}({base.__name__}):\n"
        "    def __init__(self, config, *args, **kwargs):\n"
        "        super().__init__(config, *args, **kwargs)\n"
        "        resize_layers_(self, config.slimformer)\n"
    )
