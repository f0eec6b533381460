"""Image encoders, one file per family."""

from slimformer_vision import timm_vit, vit

__all__ = ["timm_vit", "vit"]
