"""Verify laws 1 to 4 on a super-network that is about to be used: one batch, a few sub-networks, no copy of the model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Generator, Tensor, nn

from slimformer.backbones.base import backbone_for
from slimformer.errors import TopologyError
from slimformer.rewiring import Shuffle
from slimformer.supernet.network import SuperNet
from slimformer.supernet.outputs import Batch, to_device
from slimformer.supernet.spec import SubnetSpec
from slimformer.testing.cases import TOLERANCES, random_batch, random_specs, tensors_of, uniform_specs
from slimformer.testing.laws import masked


def verify(supernet: SuperNet, batch: Batch | None = None, *, tolerance: float | None = None) -> None:
    """Check on one batch that the topology fits the model: laws 1 to 4, for the full, the smallest and a random sub-network.

    The model is left as it was, bit for bit, its train and eval modes included.

    batch: the keyword arguments of one call; random inputs of the model's backbone unless it is given.
    tolerance: what counts as float error, as a fraction of the largest number; that of the model's number type unless given.

    Example: `verify(SuperNet(model, backbone.topology(model)), batch)`.

    Raises: TopologyError naming the law that is broken.
    """
    model, topology = supernet.model, supernet.topology
    example = next(model.parameters())
    allowed = TOLERANCES.get(example.dtype, TOLERANCES[torch.float32]) if tolerance is None else tolerance
    generator = Generator().manual_seed(0)
    given = random_batch(backbone_for(model), model, generator) if batch is None else batch
    inputs = to_device(given, example.device)
    specs = (uniform_specs(topology)[-1], *random_specs(topology, 1, generator))
    with _eval_mode(model), torch.no_grad():
        whole = _outputs(model, inputs)
        with _law("1 (the full size is the model)"):
            _expect_close(_outputs(supernet.subnet(topology.full), inputs), whole, 0.0)
        with _law("2 (rewiring changes nothing)"):
            _expect_close(_rewired(supernet, inputs), whole, allowed)
        for spec in dict.fromkeys(specs):
            _check_spec(supernet, spec, inputs, allowed)


def _check_spec(supernet: SuperNet, spec: SubnetSpec, inputs: Batch, tolerance: float) -> None:
    model, topology = supernet.model, supernet.topology
    extraction = supernet.extract(spec)
    with _law("3 (slicing is extracting is masking)"):
        live = _outputs(supernet.subnet(spec), inputs)
        _expect_close(_outputs(extraction, inputs), live, tolerance)
        with masked(model, topology, spec):
            _expect_close(live, _outputs(model, inputs), tolerance)
    with _law("4 (parameters are counted right)"):
        kept = [(n, p) for n, p in model.named_parameters() if not topology.is_dropped(n, spec)]
        counted = sum(torch.Size(topology.shape(name, p.shape, spec)).numel() for name, p in kept)
        found = sum(p.numel() for p in extraction.parameters())
        if counted != found:
            raise AssertionError(f"{counted} parameters were counted, the extraction has {found}")


def _rewired(supernet: SuperNet, inputs: Batch) -> list[Tensor]:
    """The outputs of the model while its units are shuffled."""
    rewiring = Shuffle(0)(supernet.topology, {})
    rewiring.apply_(supernet)
    try:
        return _outputs(supernet.model, inputs)
    finally:
        rewiring.inverse().apply_(supernet)


def _outputs(network: nn.Module, inputs: Batch) -> list[Tensor]:
    return [tensor.clone() for tensor in tensors_of(network(**inputs))]


def _expect_close(found: Sequence[Tensor], wanted: Sequence[Tensor], tolerance: float) -> None:
    if len(found) != len(wanted):
        raise AssertionError(f"{len(found)} tensors are returned instead of {len(wanted)}")
    for one, other in zip(found, wanted, strict=True):
        if one.shape != other.shape:
            raise AssertionError(f"a tensor has shape {tuple(one.shape)} instead of {tuple(other.shape)}")
        difference = (one - other).abs()
        if not torch.equal(one, other) and not bool(difference.max() <= tolerance * other.abs().max().clamp(min=1e-30)):
            raise AssertionError(
                f"outputs differ by {float(difference.max()):.2g}, the largest being {float(other.abs().max()):.2g}"
            )


@contextmanager
def _eval_mode(model: nn.Module) -> Iterator[None]:
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


@contextmanager
def _law(title: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # a wrong topology can break a model's forward in any way
        text = str(error).partition("\n")[0]
        raise TopologyError(
            f"the topology does not fit this model: law {title} is broken: {type(error).__name__}: {text}"
        ) from error
