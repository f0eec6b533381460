"""The cost functions of a super-network, ready to price its specs."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from pathlib import Path

import torch

from slimformer.backbones.base import Backbone
from slimformer.costs.base import COSTS, Pricer, Workload, counted_costs
from slimformer.errors import SlimformerError, first_line
from slimformer.supernet.network import SuperNet


def pricers(
    supernet: SuperNet, backbone: Backbone, costs: Iterable[str], workload: Workload, measured: Path | None
) -> dict[str, Pricer]:
    """The named cost functions, ready for one super-network.

    measured: the folder in which measured costs keep what they find; None leaves these costs out.
    """
    counted = counted_costs()
    options = {name: {} if name in counted else {"folder": str(measured)} for name in costs}
    return {
        name: COSTS.build({"name": name} | own).price(supernet, backbone, workload)
        for name, own in options.items()
        if measured or not own
    }


def counted_pricers(supernet: SuperNet, backbone: Backbone, workload: Workload) -> dict[str, Pricer]:
    """The functions of all counted costs, by name; a plugin's cost that fails is left out with a warning.

    supernet: the super-network, whose weights are not read.
    workload: the inputs for which the costs are stated.
    """
    found = {}
    for name in counted_costs():
        try:
            price = COSTS.build(name).price(supernet, backbone, workload)
            float(price(supernet.topology.full))
        except SlimformerError:
            raise
        except Exception as error:  # a stranger's code: anything can happen
            warnings.warn(f"cost {name!r} was left out: {type(error).__name__}: {first_line(error)}", UserWarning, stacklevel=2)
        else:
            found[name] = price
    return found


def stated_unit(cost: str) -> str:
    """A cost's unit; for a measured one also by how many threads, which the recipe's workload does not say."""
    unit = COSTS.build(cost).unit
    return unit if cost in counted_costs() else f"{unit}, measured with {count_of(torch.get_num_threads(), 'thread')}"


def count_of(number: int, what: str) -> str:
    return f"{number} {what}" + ("" if number == 1 else "s")
