"""One forward pass of a sub-network, with what the loss terms read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from slimformer.supernet.outputs import Batch, HiddenStates, Outputs, without_labels
from slimformer.supernet.spec import SubnetSpec
from slimformer.supernet.topology import Topology


def forward(network: nn.Module, topology: Topology, spec: SubnetSpec, batch: Batch, *, hidden: bool, labels: bool) -> Outputs:
    """Run a sub-network of `spec` (live, frozen or extracted) on a batch.

    hidden: record the embeddings and every block's output; otherwise `Outputs.hidden` is empty.
    labels: pass the batch's labels on, so that the model computes its loss; otherwise `Outputs.loss` is zero.
    """
    inputs = dict(batch) if labels else inputs_of(network, batch)
    with _recorder(network, topology if hidden else Topology((), ())) as record:
        result = network(**inputs)
    states = {
        stack.name: HiddenStates(record[stack.name][0], spec.blocks[stack.name], tuple(record[stack.name][1:]))
        for stack in (topology.stacks if hidden else ())
    }
    logits = logits_of(result)
    loss = result["loss"] if labels and result.get("loss") is not None else logits[0].new_zeros(())
    return Outputs(logits, loss, states, _has_decoder(network) and "decoder" in {stack.name for stack in topology.stacks})


def inputs_of(network: nn.Module, batch: Batch) -> dict[str, Tensor]:
    """The inputs of a batch without its labels; an encoder-decoder's decoder gets the tokens that it would get with them."""
    inputs, labels = without_labels(batch), batch.get("labels")
    shift = getattr(network, "prepare_decoder_input_ids_from_labels", None)
    is_missing = not {"decoder_input_ids", "decoder_inputs_embeds"} & set(inputs)
    if shift is not None and _has_decoder(network) and labels is not None and labels.dim() == 2 and is_missing:
        inputs["decoder_input_ids"] = shift(labels=labels)
    return inputs


def _has_decoder(network: nn.Module) -> bool:
    return bool(getattr(getattr(network, "config", None), "is_encoder_decoder", False))


def logits_of(result: Any) -> tuple[Tensor, ...]:
    """A model's logits, one tensor per output head: `logits`, or every `*_logits`, or the plain tensor it returned."""
    if isinstance(result, Tensor):
        return (result,)
    if result.get("logits") is not None:
        return (result["logits"],)
    return tuple(value for name, value in result.items() if name.endswith("_logits"))


def detach(outputs: Outputs) -> Outputs:
    """The same outputs, cut off from the graph: an in-place teacher's."""
    hidden = {
        name: HiddenStates(s.embeddings.detach(), s.blocks, tuple(state.detach() for state in s.states))
        for name, s in outputs.hidden.items()
    }
    return Outputs(tuple(head.detach() for head in outputs.logits), outputs.loss.detach(), hidden, outputs.from_decoder)


@contextmanager
def _recorder(network: nn.Module, topology: Topology) -> Iterator[dict[str, list[Tensor]]]:
    """Collect, by stack, the embeddings (what enters its first block) and then every block's output, by hooks on the blocks.

    transformers' own `output_hidden_states` goes by class and loses blocks of other classes, hence hooks.
    """
    record: dict[str, list[Tensor]] = {stack.name: [] for stack in topology.stacks}
    handles = []
    for stack in topology.stacks:

        def keep(module: nn.Module, args: Any, output: Any, name: str = stack.name) -> None:
            record[name].append(output if isinstance(output, torch.Tensor) else output[0])

        def enter(module: nn.Module, args: Any, kwargs: Any, name: str = stack.name) -> None:
            record[name].append(next(chain(args, kwargs.values())))

        blocks = list(network.get_submodule(stack.path).children())
        handles.append(blocks[0].register_forward_pre_hook(enter, with_kwargs=True))
        handles += [block.register_forward_hook(keep) for block in blocks]
    try:
        yield record
    finally:
        for handle in handles:
            handle.remove()
