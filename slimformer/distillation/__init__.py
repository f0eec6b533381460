"""Distillation: loss terms and samplers."""

from slimformer.distillation.base import TERMS, Term
from slimformer.distillation.embeddings import EmbeddingMSE
from slimformer.distillation.hidden import HiddenMSE
from slimformer.distillation.labels import Labels
from slimformer.distillation.logits import SoftCrossEntropy
from slimformer.distillation.samplers import SAMPLERS, Every, Largest, One, Sampler, Sandwich, Uniform, largest_first

__all__ = [
    "SAMPLERS",
    "TERMS",
    "EmbeddingMSE",
    "Every",
    "HiddenMSE",
    "Labels",
    "Largest",
    "One",
    "Sampler",
    "Sandwich",
    "SoftCrossEntropy",
    "Term",
    "Uniform",
    "largest_first",
]
