"""Distillation: loss terms here, the forward pass that feeds them in `forward`, the elastic training step in `step`.

The latter two import torch and are therefore not imported with the package.
"""

from slimformer.distill.base import TERMS, Term
from slimformer.distill.embeddings import EmbeddingMSE
from slimformer.distill.hidden import HiddenMSE
from slimformer.distill.labels import Labels
from slimformer.distill.soft_cross_entropy import SoftCrossEntropy

__all__ = ["TERMS", "EmbeddingMSE", "HiddenMSE", "Labels", "SoftCrossEntropy", "Term"]
