"""What the heads of a run's sub-networks look at, and how much each counts: DynaBERT's finding that kept heads take over.

The paper (arXiv 2004.04037) looks at the attention maps of sub-networks and finds that heads of a small one fuse what several
heads of the large one do. Here this is a number: how far each kept head has moved towards the maps of the dropped ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from slimformer.backbones import Topology, UnitGroup, backbone_for
from slimformer.errors import TopologyError
from slimformer.files import reading
from slimformer.importance import FirstOrder
from slimformer.recipe import Recipe
from slimformer.rewiring import Rewiring
from slimformer.runs.folder import RunFolder
from slimformer.runs.load import load_supernet
from slimformer.runs.subnets import find_subnet, processor_of
from slimformer.supernet import Batch, SubnetSpec, SuperNet, renumber, to_device
from slimformer.tasks import batches

HEADS = "heads"
"""What the axes of attention heads end in: "width.heads"."""


@dataclass(frozen=True, eq=False)
class Block:
    """The heads of one block of a network, in the super-network's order: the most important first.

    heads: each head's number in the checkpoint, before rewiring. maps: Float[Tensor, "heads tokens tokens"], rows sum to 1.
    importance: change in loss if the head were removed, to first order, or empty where no examples were asked for.
    similarity: Float[Tensor, "heads all"], of each head's map to that of each of the super-network's heads in this block: 1
        minus the Jensen-Shannon divergence (base 2), mean over the tokens; 1 is the same.
    """

    number: int
    heads: tuple[int, ...]
    maps: Tensor
    importance: tuple[float, ...]
    similarity: Tensor

    @property
    def kept(self) -> int:
        return len(self.heads)

    def to_json(self, with_maps: bool, moved: float | None) -> dict[str, Any]:
        table: dict[str, Any] = {"block": self.number, "heads": list(self.heads), "importance": list(self.importance)}
        table |= {"similarity": self.similarity.tolist(), "moved_towards_dropped": moved}
        return table | ({"maps": self.maps.tolist()} if with_maps else {})


@dataclass(frozen=True, eq=False)
class Network:
    """One sub-network's blocks, by their number in the super-network."""

    name: str
    spec: SubnetSpec
    blocks: Mapping[int, Block]


@dataclass(frozen=True, eq=False)
class Look:
    """The super-network first, then the sub-networks beside it, all on the same tokens."""

    tokens: tuple[str, ...]
    networks: tuple[Network, ...]

    def moved(self, network: Network, block: int) -> float | None:
        """How far a block's kept heads moved towards the dropped ones, in similarity, mean over all pairs of the two kinds.

        Above zero: each kept head is more like the dropped heads than its own copy in the super-network was. None where no
        head was dropped.
        """
        small, whole = network.blocks[block], self.networks[0].blocks[block]
        if small.kept == whole.kept:
            return None
        return float((small.similarity - whole.similarity[: small.kept])[:, small.kept :].mean())

    def to_json(self, blocks: Sequence[int]) -> dict[str, Any]:
        """Everything as plain data; the maps of the given blocks only."""
        return {
            "tokens": list(self.tokens),
            "networks": [
                {
                    "name": network.name,
                    "spec": network.spec.to_json(),
                    "blocks": [
                        block.to_json(number in blocks, self.moved(network, number)) for number, block in network.blocks.items()
                    ],
                }
                for network in self.networks
            ],
        }


def look(folder: RunFolder, recipe: Recipe, texts: Sequence[str], subnets: Sequence[str], examples: int) -> Look:
    """Run the super-network and sub-networks of a finished run on a text or a pair.

    subnets: their names; none for the smallest one. examples: of the run's importance split, on which the heads are scored;
        0 for no scores.
    Raises: RunError, SpaceError, DataError, WorkloadError; TopologyError for a model without heads or attention maps.
    """
    supernet = load_supernet(folder, recipe)
    space = recipe.space.to_space(supernet.topology)
    points = [find_subnet(space, name) for name in subnets or [space.smallest().name]]
    with reading(folder.supernet):
        rewiring = Rewiring.load(folder.rewiring, supernet.topology)
    tokenizer = processor_of(folder)
    inputs = dict(tokenizer(*texts, return_tensors="pt"))
    backbone_for(supernet.model).example(supernet.model, 1, inputs["input_ids"].shape[1])
    scored = _batches(folder, recipe, examples)
    viewer = Viewer(supernet, rewiring, to_device(inputs, next(supernet.parameters()).device), scored)
    whole = viewer.network("super-network", supernet.topology.full, {})
    others = [viewer.network(name, spec, whole.blocks) for name, spec in points if spec != supernet.topology.full]
    return Look(tuple(tokenizer.convert_ids_to_tokens(inputs["input_ids"][0].tolist())), (whole, *others))


def _batches(folder: RunFolder, recipe: Recipe, examples: int) -> list[Batch]:
    """Labelled batches on which heads are scored."""
    if not examples:
        return []
    data = recipe.task.load(str(folder.supernet))
    split = data.scoring_examples(recipe.importance.split)
    return batches(split, data.collate, recipe.importance.batch_size, examples)


@dataclass(frozen=True)
class Viewer:
    """A super-network and what all of its sub-networks are shown."""

    supernet: SuperNet
    rewiring: Rewiring
    inputs: Batch
    scored: Sequence[Batch]

    def network(self, name: str, spec: SubnetSpec, whole: Mapping[int, Block]) -> Network:
        """The blocks of one sub-network; `whole` has those of the super-network, or nothing for the super-network itself."""
        topology, network = self.supernet.topology, self.supernet.frozen(spec)
        maps = self._maps(network, spec)
        scores = FirstOrder().of(network, own_topology(topology, spec), self.scored) if self.scored else {}
        blocks = {}
        for block, group in heads_of(topology).items():
            if block in maps:
                shown = maps[block]
                heads = tuple(self.rewiring.orders[group.name][: spec.units[group.name]])
                importance = tuple(scores[group.name].tolist()) if scores else ()
                others = whole[block].maps if whole else shown
                blocks[block] = Block(block, heads, shown, importance, similarity(shown, others))
        return Network(name, spec, blocks)

    def _maps(self, network: Any, spec: SubnetSpec) -> dict[int, Tensor]:
        """The attention maps of each block that ran, averaged over the query heads of a unit where it has several."""
        network.set_attn_implementation("eager")
        with torch.no_grad():
            found = network(**self.inputs, output_attentions=True).get("attentions") or ()
        kept = spec.blocks[self.supernet.topology.stacks[0].name]
        if len(found) != len(kept):
            raise TopologyError(f"{type(self.supernet.model).__name__} returns no attention maps for its {len(kept)} blocks")
        groups = heads_of(self.supernet.topology)
        return {
            block: maps[0].float().cpu().unflatten(0, (spec.units[groups[block].name], -1)).mean(1)
            for block, maps in zip(kept, found, strict=True)
        }


def heads_of(topology: Topology) -> dict[int, UnitGroup]:
    """The group of attention heads of each block of the first stack.

    Raises: TopologyError where the model has no heads that can be dropped.
    """
    owners = topology.owner
    groups = [group for group in topology.groups if group.axis.rpartition(".")[2] == HEADS and group.name in owners]
    found = {owners[g.name][1]: g for g in groups if owners[g.name][0] == topology.stacks[0].name}
    if not found:
        raise TopologyError(f"the model has no groups of attention heads: its axes are {', '.join(topology.axes)}")
    return found


def own_topology(topology: Topology, spec: SubnetSpec) -> Topology:
    """The groups of a sub-network as large as they are in it, under the names that its modules have."""
    groups = [
        replace(
            group,
            num_units=spec.units[group.name],
            slices=tuple(replace(s, parameter=renumber(s.parameter, topology, spec)) for s in group.slices),
        )
        for group in topology.groups
        if group.name in spec.units
    ]
    return Topology(tuple(groups), ())


def similarity(ones: Tensor, others: Tensor) -> Tensor:
    """1 minus the Jensen-Shannon divergence (base 2) of attention maps, mean over the query tokens: 1 is the same, 0 disjoint.

    ones, others: Float[Tensor, "heads tokens tokens"], rows sum to 1. Returns: Float[Tensor, "ones others"].
    """
    one, other = ones[:, None], others[None]
    middle = (one + other) / 2
    divergence = (_entropy(middle) - (_entropy(one) + _entropy(other)) / 2).mean(-1)
    return 1 - divergence.clamp(0, 1)


def _entropy(rows: Tensor) -> Tensor:
    """In bits, of the last dimension."""
    return -(rows * rows.clamp(min=1e-12).log2()).sum(-1)


def blocks_to_show(found: Look, asked: Sequence[int]) -> list[int]:
    """The blocks that were asked for, or the last one that all networks have (the super-network's last, if there is none).

    Raises: TopologyError for a block that the super-network does not have.
    """
    whole = found.networks[0].blocks
    for block in asked:
        if block not in whole:
            raise TopologyError(f"--block {block}: the super-network has the blocks {min(whole)} to {max(whole)}")
    common = [block for block in whole if all(block in network.blocks for network in found.networks)]
    return list(dict.fromkeys(asked)) or [max(common or whole)]
