"""Image encoders, one file per family, and image classification."""

from slimformer_vision import clip, image_classification, timm_eva, timm_swin, timm_vit, timm_wrapper, vit

__all__ = ["clip", "image_classification", "timm_eva", "timm_swin", "timm_vit", "timm_wrapper", "vit"]
