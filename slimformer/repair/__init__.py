"""Repair: refit the weights of a cut-out sub-network to the whole model, in closed form, without labels or training."""

from __future__ import annotations

from typing import TYPE_CHECKING

from slimformer.lazy import lazy_names
from slimformer.repair.base import REPAIRS as REPAIRS, Repair as Repair
from slimformer.repair.bias import Bias as Bias
from slimformer.repair.least_squares import LeastSquares as LeastSquares
from slimformer.repair.none import NoRepair as NoRepair
from slimformer.repair.scale import Scale as Scale

if TYPE_CHECKING:
    from slimformer.repair.streams import TeacherStreams as TeacherStreams, record_streams as record_streams

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    {
        "base": ["REPAIRS", "Repair"],
        "bias": ["Bias"],
        "least_squares": ["LeastSquares"],
        "none": ["NoRepair"],
        "scale": ["Scale"],
        "streams": ["TeacherStreams", "record_streams"],
    },
)
