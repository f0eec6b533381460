"""Rewiring: permutations of units, and the passes that propose them."""

from slimformer.rewiring.base import PASSES, Pass, Rewiring
from slimformer.rewiring.keep import Keep
from slimformer.rewiring.shuffle import Shuffle
from slimformer.rewiring.sort import Sort

__all__ = ["PASSES", "Keep", "Pass", "Rewiring", "Shuffle", "Sort"]
