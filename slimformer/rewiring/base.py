"""Rewirings as data, and the protocol and registry of the passes that propose them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from slimformer.errors import TopologyError
from slimformer.importance import Scores
from slimformer.registry import Registry
from slimformer.supernet.topology import Topology, UnitGroup

if TYPE_CHECKING:
    from torch import Tensor

    from slimformer.supernet.network import SuperNet


@dataclass(frozen=True)
class Rewiring:
    """A permutation of the units of each group: the old index of the unit that comes first, second, ...

    Laws, for rewirings `r`, `s` of one topology:
    2. applying `r` changes no output of the full-size network beyond float error; `r.then(r.inverse())` is the identity,
       and applying `r`, then `r.inverse()`, leaves every weight the same, bit for bit.
    Applying `r.then(s)` equals applying `r`, then `s`.

    Source: network rewiring, DynaBERT (arXiv 2004.04037), section 2.1.

    orders: group -> old index of each unit, in the new order.

    ```python
    from slimformer.rewiring import Rewiring
    turned = Rewiring({"encoder.0.heads": (2, 0, 1)})
    assert turned.then(turned.inverse()).is_identity
    ```
    """

    orders: Mapping[str, tuple[int, ...]]

    @staticmethod
    def identity(topology: Topology) -> Rewiring:
        """The rewiring that leaves every unit in its place."""
        return Rewiring({group.name: tuple(range(group.num_units)) for group in topology.groups})

    @staticmethod
    def of(topology: Topology, orders: Mapping[str, Sequence[int]]) -> Rewiring:
        """A rewiring from the orders of some groups; the other groups stay as they are.

        Raises: TopologyError for an unknown group, or an order that is not a permutation of its units.
        """
        for name, order in orders.items():
            if name not in topology.by_name:
                raise TopologyError(f"the rewiring orders group {name!r}, which the topology does not have")
            size = topology.by_name[name].num_units
            if sorted(order) != list(range(size)):
                raise TopologyError(f"the order of group {name!r} is not a permutation of 0..{size - 1}")
        whole = dict(Rewiring.identity(topology).orders)
        return Rewiring(whole | {name: tuple(int(u) for u in order) for name, order in orders.items()})

    @property
    def is_identity(self) -> bool:
        """Whether every unit stays in its place."""
        return all(order == tuple(range(len(order))) for order in self.orders.values())

    def inverse(self) -> Rewiring:
        """The rewiring that undoes this one."""
        return Rewiring({name: tuple(sorted(range(len(o)), key=o.__getitem__)) for name, o in self.orders.items()})

    def then(self, later: Rewiring) -> Rewiring:
        """This rewiring followed by a later one, as a single rewiring."""
        return Rewiring({name: tuple(order[u] for u in later.orders[name]) for name, order in self.orders.items()})

    def apply_(self, supernet: SuperNet) -> None:
        """Permute the weights in place; storage stays where it is, so live sub-networks follow.

        An optimizer's state is not permuted: rewire before the optimizer is made.
        """
        import torch

        parameters = dict(supernet.model.named_parameters(remove_duplicate=False))
        with torch.no_grad():
            for group in supernet.topology.groups:
                for part in group.slices:
                    full = parameters[part.parameter]
                    index = self._index(group, part.unit_size).to(full.device)
                    view = full.narrow(part.dim, part.start, len(index))
                    view.copy_(view.index_select(part.dim, index))
        self._move_places_(supernet)

    def _move_places_(self, supernet: SuperNet) -> None:
        """Permute the units' places in shared inputs, and note them in the configuration that is saved with the weights."""
        import torch

        from slimformer.supernet.config_fields import PLACES

        noted: dict[str, dict[str, list[int]]] = {}
        for group in supernet.topology.groups:
            for shared in group.shared:
                places = supernet.model.get_submodule(shared.module).get_buffer(shared.buffer)
                places.copy_(places[torch.tensor(self.orders[group.name], device=places.device)])
                noted.setdefault(shared.module, {})[shared.argument] = places.tolist()
        if noted:
            setattr(supernet.model.config, PLACES, noted)

    def _index(self, group: UnitGroup, unit_size: int) -> Tensor:
        import torch

        order = torch.tensor(self.orders[group.name])
        return (order[:, None] * unit_size + torch.arange(unit_size)).flatten()

    def save(self, path: Path) -> None:
        """Write the orders as JSON: group -> list of old indices."""
        path.write_text(json.dumps({name: list(order) for name, order in self.orders.items()}))

    @staticmethod
    def load(path: Path, topology: Topology) -> Rewiring:
        """Read a saved rewiring.

        Raises: TopologyError where the file does not hold a rewiring of this topology.
        """
        try:
            return Rewiring.of(topology, json.loads(path.read_text()))
        except (OSError, ValueError, TypeError, AttributeError, TopologyError) as error:
            raise TopologyError(f"{path} does not hold a rewiring of this topology: {error}") from None


class Pass(Protocol):
    """A pure function that proposes a rewiring from importance scores.

    Law: the result is a rewiring of the topology, a function of the topology and the scores alone.
    """

    def __call__(self, topology: Topology, scores: Scores) -> Rewiring: ...


PASSES: Registry[Pass] = Registry("rewiring pass", "passes", requires=("__call__",))
"""Rewiring passes by name."""
