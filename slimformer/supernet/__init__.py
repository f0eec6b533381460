"""The elastic model: topology, specs, the super-network and its live sub-networks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from slimformer.lazy import lazy_names

if TYPE_CHECKING:
    from slimformer.supernet.clone import join as join, parts_of as parts_of, renumber as renumber
    from slimformer.supernet.config_fields import read_field as read_field, write_field_ as write_field_
    from slimformer.supernet.forward import detach as detach, logits_of as logits_of
    from slimformer.supernet.network import SuperNet as SuperNet
    from slimformer.supernet.outputs import (
        Batch as Batch,
        HiddenStates as HiddenStates,
        Outputs as Outputs,
        to_device as to_device,
        without_labels as without_labels,
    )
    from slimformer.supernet.spec import SubnetSpec as SubnetSpec
    from slimformer.supernet.topology import (
        Attribute as Attribute,
        BlockStack as BlockStack,
        SharedInput as SharedInput,
        Slice as Slice,
        Topology as Topology,
        UnitGroup as UnitGroup,
        linear as linear,
    )

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    {
        "network": ["SuperNet"],
        "spec": ["SubnetSpec"],
        "topology": ["Attribute", "BlockStack", "SharedInput", "Slice", "Topology", "UnitGroup", "linear"],
        "outputs": ["Batch", "HiddenStates", "Outputs", "to_device", "without_labels"],
        "forward": ["detach", "logits_of"],
        "config_fields": ["read_field", "write_field_"],
        "clone": ["join", "parts_of", "renumber"],
    },
)
