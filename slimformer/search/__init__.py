"""Search: which sub-network is best under the limits."""

from slimformer.search.auto import Auto
from slimformer.search.base import STRATEGIES, Best, Candidate, Cheapest, Goal, Limit, Problem, Strategy, search
from slimformer.search.choices import Choices
from slimformer.search.evolution import Evolution
from slimformer.search.grid import Grid
from slimformer.search.journal import Coordinator, SharedJournal, SingleProcess
from slimformer.search.milp import Milp
from slimformer.search.random import Random

__all__ = [
    "STRATEGIES",
    "Auto",
    "Best",
    "Candidate",
    "Cheapest",
    "Choices",
    "Coordinator",
    "Evolution",
    "Goal",
    "Grid",
    "Limit",
    "Milp",
    "Problem",
    "Random",
    "SharedJournal",
    "SingleProcess",
    "Strategy",
    "search",
]  # fmt: skip

_OLD = {"Alone": "SingleProcess", "Ledger": "Coordinator", "Shared": "SharedJournal"}


def __getattr__(name: str) -> object:
    if name not in _OLD:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import warnings

    warnings.warn(f"slimformer.search.{name} is now {_OLD[name]}", DeprecationWarning, stacklevel=2)
    return globals()[_OLD[name]]
