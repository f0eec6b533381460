"""Costs: parameters, FLOPs, latency, ... of a sub-network, given its spec."""

from __future__ import annotations

from typing import TYPE_CHECKING

from slimformer.lazy import lazy_names

if TYPE_CHECKING:
    from slimformer.costs.base import (
        COSTS as COSTS,
        Cost as Cost,
        Pricer as Pricer,
        Workload as Workload,
        counted_costs as counted_costs,
        is_measured as is_measured,
        unit_of as unit_of,
    )
    from slimformer.costs.prices import counted_pricers as counted_pricers, pricers as pricers, stated_unit as stated_unit
    from slimformer.costs.quantity import (
        QuantityError as QuantityError,
        format_cost as format_cost,
        format_quantity as format_quantity,
        parse_quantity as parse_quantity,
    )

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    {
        "base": ["COSTS", "Cost", "Pricer", "Workload", "counted_costs", "is_measured", "unit_of"],
        "prices": ["counted_pricers", "pricers", "stated_unit"],
        "quantity": ["QuantityError", "format_cost", "format_quantity", "parse_quantity"],
    },
)
