"""Importance scorers: a number for each unit, higher for the units that the model needs more."""

from slimformer.importance.activation import ActivationNorm
from slimformer.importance.base import SCORERS, Scorer, Scores, load_scores, save_scores
from slimformer.importance.first_order import FirstOrder
from slimformer.importance.magnitude import Magnitude
from slimformer.importance.random import RandomScores

__all__ = [
    "SCORERS",
    "ActivationNorm",
    "FirstOrder",
    "Magnitude",
    "RandomScores",
    "Scorer",
    "Scores",
    "load_scores",
    "save_scores",
]
