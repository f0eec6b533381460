"""Distillation: loss terms, samplers and schedules."""

from slimformer.distillation.base import TERMS, Term
from slimformer.distillation.embeddings import EmbeddingMSE
from slimformer.distillation.hidden import HiddenMSE
from slimformer.distillation.labels import Labels
from slimformer.distillation.logits import SoftCrossEntropy
from slimformer.distillation.samplers import SAMPLERS, Every, Largest, One, Sampler, Sandwich, Uniform, largest_first
from slimformer.distillation.schedules import SCHEDULES, DynaBERT, FinalFinetuning, OneStage, Schedule, Stage

__all__ = [
    "SAMPLERS",
    "SCHEDULES",
    "TERMS",
    "DynaBERT",
    "EmbeddingMSE",
    "Every",
    "FinalFinetuning",
    "HiddenMSE",
    "Labels",
    "Largest",
    "One",
    "OneStage",
    "Sampler",
    "Sandwich",
    "Schedule",
    "SoftCrossEntropy",
    "Stage",
    "Term",
    "Uniform",
    "largest_first",
]
