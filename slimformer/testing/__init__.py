"""The laws that every backbone keeps, as checks for plugin authors.

    from slimformer.testing import check_backbone

    def test_my_family_keeps_the_laws():
        check_backbone(MyFamily(), tiny_model)

The model should be tiny, its weights far enough from zero that every unit matters (drawn with standard deviation 0.3, say).
A single law is checked by its own function: `check_masking(Case.of(MyFamily(), tiny_model))`.

On real weights, from a shell: `python -m slimformer.testing CHECKPOINT` (`--help` says more).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from slimformer.lazy import lazy_names

if TYPE_CHECKING:
    from slimformer.testing.cases import (
        TOLERANCES as TOLERANCES,
        Case as Case,
        random_batch as random_batch,
        random_specs as random_specs,
        tensors_of as tensors_of,
        uniform_specs as uniform_specs,
    )
    from slimformer.testing.laws import (
        LAWS as LAWS,
        check_backbone as check_backbone,
        check_costs as check_costs,
        check_full_size as check_full_size,
        check_generation as check_generation,
        check_gradients as check_gradients,
        check_masking as check_masking,
        check_no_trace as check_no_trace,
        check_parameter_count as check_parameter_count,
        check_rewiring as check_rewiring,
        check_saving as check_saving,
        check_specs_differ as check_specs_differ,
        generates as generates,
        is_part_of as is_part_of,
    )
    from slimformer.testing.masking import masked as masked
    from slimformer.testing.verification import verify as verify

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    {
        "cases": ["TOLERANCES", "Case", "random_batch", "random_specs", "tensors_of", "uniform_specs"],
        "laws": [
            "LAWS",
            "check_backbone",
            "check_costs",
            "check_full_size",
            "check_generation",
            "check_gradients",
            "check_masking",
            "check_no_trace",
            "check_parameter_count",
            "check_rewiring",
            "check_saving",
            "check_specs_differ",
            "generates",
            "is_part_of",
        ],
        "masking": ["masked"],
        "verification": ["verify"],
    },
)
