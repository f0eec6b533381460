"""The elastic training step: every sampled sub-network learns from one batch, gradients add up in the super-network."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor

from slimformer.axes.base import size_at
from slimformer.distillation.base import Term
from slimformer.supernet.forward import detach, forward
from slimformer.supernet.network import SuperNet
from slimformer.supernet.outputs import Batch, Outputs
from slimformer.supernet.spec import SubnetSpec
from slimformer.supernet.topology import Topology

Backward = Callable[[Tensor], None]

Autocast = Callable[[], AbstractContextManager[None]]


@dataclass(frozen=True)
class StepLoss:
    """Losses of one step: the sum over sub-networks, and the weighted value of each term."""

    total: Tensor
    terms: Mapping[str, Tensor]


@dataclass(frozen=True)
class Lesson:
    """What a teacher showed: which of its sub-networks spoke, its outputs, and the student that it is (in place)."""

    teacher: SubnetSpec
    outputs: Outputs
    by: Outputs | None


@dataclass(frozen=True)
class ElasticStep:
    """Forward and backward passes of one batch for the given sub-networks, one at a time.

    The gradient that it leaves in the super-network is that of sum_s sum_k weight_k term_k(s, teacher(s), batch), s over the
    sub-networks (as in DynaBERT, which sums and does not average). Only one sub-network's activations are alive at a time.

    teacher: the super-network that teaches, itself untouched; not run where no term reads it.
    follow: the axes on which the teacher is as small as the student (the paper's stage two: ("width",)); on the others it
        is whole.
    in_place: the first sub-network learns from the labels, and its outputs in this very step teach the others, instead of
        `teacher` (in-place distillation, arXiv 1903.05134, section 3.3).
    """

    supernet: SuperNet
    terms: Sequence[tuple[str, Term]]
    teacher: SuperNet
    follow: tuple[str, ...] = ()
    in_place: bool = False

    def __call__(
        self, batch: Batch, specs: Sequence[SubnetSpec], backward: Backward, autocast: Autocast = nullcontext
    ) -> StepLoss:
        """Add the gradients of one batch; `specs` largest first. Allocate the gradient buffers before."""
        losses: dict[str, Tensor] = {}
        lesson: Lesson | None = None
        for spec in self._by_teacher(specs):
            with autocast():
                student = self._run(spec, batch)
                if lesson is None or not self._serves(lesson, spec):
                    lesson = self._teach(spec, batch, student)
                shares = self._shares(student, lesson, batch)
                loss = torch.stack(list(shares.values())).sum()
            backward(loss)
            for name, share in shares.items():
                losses[name] = losses.get(name, torch.zeros_like(share)) + share.detach()
        return StepLoss(torch.stack(list(losses.values())).sum(), losses)

    def teacher_spec(self, spec: SubnetSpec) -> SubnetSpec:
        """The sub-network of the teacher that teaches `spec`."""
        return follow_spec(self.supernet.topology, spec, self.follow)

    def _by_teacher(self, specs: Sequence[SubnetSpec]) -> list[SubnetSpec]:
        """The sub-networks in their order, but those with the same teacher together, so that it runs once for them."""
        teachers = list(dict.fromkeys(self.teacher_spec(spec) for spec in specs))
        return sorted(specs, key=lambda spec: teachers.index(self.teacher_spec(spec)))

    def _run(self, spec: SubnetSpec, batch: Batch) -> Outputs:
        labels = self.in_place or any(term.needs_labels for _, term in self.terms)
        network = self.supernet.subnet(spec)
        return forward(network, self.supernet.topology, spec, batch, hidden=self._needs_hidden, labels=labels)

    def _serves(self, lesson: Lesson, spec: SubnetSpec) -> bool:
        return self.in_place or lesson.teacher == self.teacher_spec(spec)

    def _teach(self, spec: SubnetSpec, batch: Batch, student: Outputs) -> Lesson:
        teacher = self.teacher_spec(spec)
        if self.in_place:
            return Lesson(teacher, detach(student), by=student)
        if not any(term.needs_teacher for _, term in self.terms):
            return Lesson(teacher, student, by=None)
        with torch.no_grad():
            network = self.teacher.subnet(teacher)
            outputs = forward(network, self.teacher.topology, teacher, batch, hidden=self._needs_hidden, labels=False)
        return Lesson(teacher, outputs, by=None)

    def _shares(self, student: Outputs, lesson: Lesson, batch: Batch) -> dict[str, Tensor]:
        if lesson.by is student:
            return {"labels": student.loss}
        return {name: term.weight * term(student, lesson.outputs, batch) for name, term in self.terms}

    @property
    def _needs_hidden(self) -> bool:
        return any(term.needs_hidden for _, term in self.terms)


def follow_spec(topology: Topology, spec: SubnetSpec, follow: tuple[str, ...]) -> SubnetSpec:
    """The spec that is as small as `spec` on the axes `follow`, and whole on the others.

    A group inside a block that `spec` dropped takes the largest share that `spec` gives to a group of its axis.
    """

    def follows(axis: str) -> bool:
        return any(axis == name or axis.startswith(name + ".") for name in follow)

    shares: dict[str, float] = {}
    for name, size in spec.units.items():
        group = topology.by_name[name]
        shares[group.axis] = max(shares.get(group.axis, 0.0), size / group.num_units)
    units = {g.name: spec.units.get(g.name, size_at(g, shares.get(g.axis, 1.0))) for g in topology.groups if follows(g.axis)}
    return topology.spec(units, {s.name: spec.blocks[s.name] for s in topology.stacks if follows(s.axis)})
