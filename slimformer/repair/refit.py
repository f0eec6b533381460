"""Refit the linear modules of a sub-network one after the other, towards the residual stream of the whole model."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor, nn

from slimformer.errors import RepairError
from slimformer.repair.blocks import BlockCall, Reached, first_tensor, record_calls, stream_of
from slimformer.repair.equations import Change, NormalEquations
from slimformer.repair.places import Reader
from slimformer.repair.streams import StackStreams, TeacherStreams, record_streams
from slimformer.supernet.outputs import Batch

if TYPE_CHECKING:
    from slimformer.supernet.network import SuperNet
    from slimformer.supernet.spec import SubnetSpec

LEAST_GAIN = 1e-3
"""The smallest gain of a norm by which a target is divided."""


class Solver(Protocol):
    """Turns normal equations into a change of a weight and its bias."""

    def __call__(self, equations: NormalEquations, weight: Tensor, reader: Reader, post_norm: bool) -> Change: ...


@dataclass(frozen=True)
class Step:
    """One module to refit.

    block: in the whole model. until: the last block before the next one that is kept; `block` where none is dropped behind it
        or a later module of this block is refitted too.
    post_norm: whether the block's stream is normalised after each sum.
    """

    reader: Reader
    block: int
    until: int
    is_cut: bool
    post_norm: bool


@dataclass(frozen=True)
class Seen:
    """What one reader of the sub-network saw in one batch: its inputs, and the stream behind its sum, by token."""

    inputs: Tensor
    sums: Tensor


def refit(
    supernet: SuperNet,
    spec: SubnetSpec,
    batches: Sequence[Batch],
    teacher: TeacherStreams | None,
    solve: Solver,
    min_tokens: float,
) -> nn.Module:
    """Extract a sub-network and refit its readers in order, each on the sub-network's own inputs.

    Let s_j be the stream of the whole model behind unit j (an attention or feed-forward half), and j' the last unit before the
    next one that is kept. Reader j of the sub-network is changed so that its stream behind j comes near s_j': earlier errors and
    dropped blocks are absorbed. Modules before the first change stay as they are, bit for bit.

    min_tokens: refuse fewer real tokens than this for each input of a refitted module.
    Raises: RepairError.
    """
    teacher = teacher or record_streams(supernet, batches)
    module = supernet.extract(spec).eval()
    changed = False
    for stack in supernet.topology.stacks:
        streams, kept = teacher.stacks[stack.name], spec.blocks[stack.name]
        plan = plan_of(streams, kept, stack.num_blocks, spec, supernet)
        first = (
            0 if changed else next((i for i, steps in enumerate(plan) if any(s.is_cut or s.until > s.block for s in steps)), -1)
        )
        if first < 0:
            continue
        changed = True
        refitted = [step.reader for steps in plan[first:] for step in steps]
        _check_tokens(module, stack.path, plan, streams, min_tokens if refitted else 0)
        calls = record_calls(module, stack.path, batches)
        current = [of_batch[first].stream for of_batch in calls]
        for index in range(first, len(kept)):
            block = module.get_submodule(f"{stack.path}.{index}")
            run = [of_batch[index].on(stream) for of_batch, stream in zip(calls, current, strict=True)]
            current = _refit_block_(block, run, plan[index], streams, solve)
    return module


def plan_of(
    streams: StackStreams, kept: Sequence[int], num_blocks: int, spec: SubnetSpec, supernet: SuperNet
) -> list[tuple[Step, ...]]:
    """The modules to refit in each kept block, in order."""
    plan = []
    for index, block in enumerate(kept):
        until = (kept[index + 1] if index + 1 < len(kept) else num_blocks) - 1
        readers = streams.readers[block]
        post_norm = any(reader.place.inverts for reader in readers)
        steps = []
        for number, reader in enumerate(readers):
            is_last = number == len(readers) - 1
            cut = spec.units[reader.group] < supernet.topology.by_name[reader.group].num_units
            absorbs = is_last and reader.place.ends_block
            steps.append(Step(reader, block, until if absorbs else block, cut, post_norm))
        plan.append(tuple(steps))
    return plan


def _check_tokens(module: nn.Module, path: str, plan: list[tuple[Step, ...]], streams: StackStreams, least: float) -> None:
    tokens = sum(int(mask.sum()) for mask in streams.masks)
    for index, steps in enumerate(plan):
        for step in steps:
            weight = module.get_parameter(f"{path}.{index}.{step.reader.module}.weight")
            inputs = weight.shape[0] if step.reader.transposed else weight.shape[1]
            if tokens < least * inputs:
                raise RepairError(
                    f"the calibration batches have {tokens} real tokens, but refitting {step.reader.module} of block {step.block} "
                    f"({inputs} inputs) needs at least {int(least * inputs)}: give more texts, or set min_tokens lower and ridge higher"
                )


def _refit_block_(
    block: nn.Module, calls: list[BlockCall], steps: tuple[Step, ...], streams: StackStreams, solve: Solver
) -> list[Tensor]:
    """Refit the readers of one block; returns the stream behind it, by batch."""
    for step in steps:
        is_last = step is steps[-1] and step.reader.place.ends_block
        equations = NormalEquations(centred=getattr(block.get_submodule(step.reader.module), "bias", None) is not None)
        reduce = token_weights(step, streams)
        seen = []
        for index, call in enumerate(calls):
            found = _look(block, call, step.reader)
            wanted = target_of(block, step, streams, index)
            keep = streams.masks[index].reshape(found.sums.shape[:-1])
            residual = (wanted - found.sums).float()
            if step.reader.place.gain is not None:
                residual = residual / away_from_zero(step.reader.place.gain.float())
            equations.add(found.inputs[keep].float(), residual[keep], reduce[index].reshape(keep.shape)[keep])
            if is_last:
                seen.append(found)
        _check_finite(equations, step)
        change = _apply_(block, step, solve, equations)
        if is_last:
            return [_behind(block, step, found, change) for found in seen]
    with torch.no_grad():
        return [call.run(block) for call in calls]


def _look(block: nn.Module, call: BlockCall, reader: Reader) -> Seen:
    """Run a block up to a reader's sum."""
    found: dict[str, Tensor] = {}

    def enter(module: nn.Module, args: tuple) -> None:
        found["inputs"] = args[0]

    def meet(module: nn.Module, args: tuple, kwargs: dict) -> None:
        tensor = first_tensor(args, kwargs)
        if tensor is not None and "inputs" in found:
            found["sums"] = tensor
            raise Reached

    with ExitStack() as hooks, torch.no_grad():
        hooks.callback(block.get_submodule(reader.module).register_forward_pre_hook(enter).remove)
        if reader.place.module:
            place = block.get_submodule(reader.place.module)
            hooks.callback(place.register_forward_pre_hook(meet, with_kwargs=True).remove)
        with suppress(Reached):
            found["sums"] = call.run(block)
    inputs = found["inputs"]
    return Seen(inputs.reshape(*found["sums"].shape[:-1], inputs.shape[-1]), found["sums"])


def target_of(block: nn.Module, step: Step, streams: StackStreams, batch: int) -> Tensor:
    """The stream that the sub-network should have behind a step's sum, Float[Tensor, "batch tokens hidden"].

    Where blocks are dropped behind the step it is the stream that enters the next kept block. A norm in between is inverted with
    the mean and the variance that the whole model's own sum has, so that a dropped block that is the identity changes nothing.
    """
    own = streams.sums[step.block, step.reader.module][batch]
    if step.until == step.block:
        return own
    behind = streams.outputs[step.until][batch]
    if not step.reader.place.inverts:
        return behind
    norm = block.get_submodule(step.reader.place.module)
    gain = away_from_zero(norm.get_parameter("weight").detach().float())
    bias = getattr(norm, "bias", None)
    normalised = (behind.float() - (0 if bias is None else bias.detach().float())) / gain
    wide = own.float()
    eps = float(getattr(norm, "eps", getattr(norm, "variance_epsilon", 0.0)))
    if isinstance(norm, nn.LayerNorm):
        spread = wide.var(-1, correction=0, keepdim=True).add(eps).sqrt()
        return normalised * spread + wide.mean(-1, keepdim=True)
    return normalised * wide.square().mean(-1, keepdim=True).add(eps).sqrt()


def away_from_zero(gain: Tensor) -> Tensor:
    """The gain, each entry at least `LEAST_GAIN` in size."""
    return torch.where(gain.abs() < LEAST_GAIN, torch.full_like(gain, LEAST_GAIN).copysign(gain), gain)


def token_weights(step: Step, streams: StackStreams) -> list[Tensor]:
    """The weight of each token in the normal equations, by batch: 1 in post-norm blocks, else min(1, median / r) with r the mean
    square of the target, so that the massive activations of an attention sink do not outvote all others."""
    masks = streams.masks
    if step.post_norm:
        return [mask.float() for mask in masks]
    squares = [
        (streams.outputs[step.until] if step.until > step.block else streams.sums[step.block, step.reader.module])[index]
        .float().square().mean(-1).clamp(min=torch.finfo(torch.float32).tiny).reshape(masks[index].shape)
        for index in range(len(masks))
    ]  # fmt: skip
    median = torch.cat([square[mask] for square, mask in zip(squares, masks, strict=True)]).median()
    return [torch.clamp(median / square, max=1.0) * mask for square, mask in zip(squares, masks, strict=True)]


def _check_finite(equations: NormalEquations, step: Step) -> None:
    if not equations.is_finite():
        raise RepairError(
            f"the activations of {step.reader.module} in block {step.block} are not finite on the calibration batches: "
            "check the inputs and the model's weights, or load it in float32"
        )


def _apply_(block: nn.Module, step: Step, solve: Solver, equations: NormalEquations) -> Change:
    """Solve for a reader's change and write it into its weight."""
    reader = block.get_submodule(step.reader.module)
    matrix, bias = reader.get_parameter("weight"), getattr(reader, "bias", None)
    weight = matrix.detach()
    change = solve(equations, (weight.T if step.reader.transposed else weight).float(), step.reader, step.post_norm)
    delta = change.weight.to(weight)
    with torch.no_grad():
        matrix.add_(delta.T if step.reader.transposed else delta)
        if bias is not None:
            bias.add_(change.bias.to(bias))
    return change


def _behind(block: nn.Module, step: Step, seen: Seen, change: Change) -> Tensor:
    """The stream behind a block whose last reader was changed, without running the block again."""
    with torch.no_grad():
        added = seen.inputs @ change.weight.to(seen.inputs).T + change.bias.to(seen.inputs)
        gain = step.reader.place.gain
        moved = seen.sums + (added if gain is None else added * gain.to(added))
        return stream_of(block.get_submodule(step.reader.place.module)(moved)) if step.reader.place.inverts else moved
