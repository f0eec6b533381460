"""Search: which sub-network is best under the limits."""

from slimformer.search.auto import Auto
from slimformer.search.base import STRATEGIES, Best, Candidate, Cheapest, Goal, Limit, Problem, Strategy, search
from slimformer.search.choices import Choices
from slimformer.search.evolution import Evolution
from slimformer.search.grid import Grid
from slimformer.search.journal import Alone, Ledger, Shared
from slimformer.search.milp import Milp
from slimformer.search.random import Random

__all__ = [
    "STRATEGIES", "Alone", "Auto", "Best", "Candidate", "Cheapest", "Choices", "Evolution", "Goal", "Grid", "Ledger", "Limit",
    "Milp", "Problem", "Random", "Shared", "Strategy", "search",
]  # fmt: skip
