"""Training: one elastic step, and the stage that repeats it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from slimformer.lazy import lazy_names

if TYPE_CHECKING:
    from slimformer.training.options import Machine as Machine, Optimisation as Optimisation, Precision as Precision
    from slimformer.training.processes import Processes as Processes
    from slimformer.training.step import ElasticStep as ElasticStep, StepLoss as StepLoss, follow_spec as follow_spec
    from slimformer.training.trainer import run_stage as run_stage

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    {
        "options": ["Machine", "Optimisation", "Precision"],
        "processes": ["Processes"],
        "step": ["ElasticStep", "StepLoss", "follow_spec"],
        "trainer": ["run_stage"],
    },
)
