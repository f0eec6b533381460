"""Search: which sub-network is best under the limits."""

from slimformer.search.base import STRATEGIES, Candidate, Limit, Strategy, search
from slimformer.search.grid import Grid

__all__ = ["STRATEGIES", "Candidate", "Grid", "Limit", "Strategy", "search"]
