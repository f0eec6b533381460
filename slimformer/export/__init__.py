"""Export: write a sub-network as a folder that other libraries load, and load it back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from slimformer.lazy import lazy_names

if TYPE_CHECKING:
    from slimformer.export.huggingface import export as export
    from slimformer.export.load import from_pretrained as from_pretrained
    from slimformer.export.plain import load_into as load_into
    from slimformer.supernet.slim_class import slim_class as slim_class

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    {
        "huggingface": ["export"],
        "load": ["from_pretrained"],
        "plain": ["load_into"],
        "slimformer.supernet.slim_class": ["slim_class"],
    },
)
