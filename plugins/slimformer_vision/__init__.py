"""Image encoders, one file per family."""

from slimformer_vision import timm_eva, timm_swin, timm_vit, vit

__all__ = ["timm_eva", "timm_swin", "timm_vit", "vit"]
