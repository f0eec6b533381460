"""A short training of one sub-network alone, after a search has chosen it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from transformers import AutoProcessor

from slimformer.axes.space import Space
from slimformer.backbones.base import backbone_for
from slimformer.distillation import TERMS
from slimformer.errors import SearchError
from slimformer.export.huggingface import dtype_of, export
from slimformer.files import remove
from slimformer.progress import Report
from slimformer.recipe.schema import Recipe
from slimformer.runs.folder import RunFolder
from slimformer.runs.load import load_supernet
from slimformer.supernet.network import SuperNet
from slimformer.supernet.spec import SubnetSpec
from slimformer.training import trainer
from slimformer.training.step import ElasticStep

if TYPE_CHECKING:
    from torch import Generator


@dataclass(frozen=True)
class FixedSubnet:
    """One sub-network, in every step."""

    spec: SubnetSpec

    def __call__(self, space: Space, generator: Generator) -> Sequence[SubnetSpec]:
        return [self.spec]


def finetune(folder: RunFolder, recipe: Recipe, spec: SubnetSpec, steps: int, report: Report) -> SuperNet:
    """Train one sub-network by the run's last stage, the full-size network being its teacher; export it.

    The weights outside the spec stay as they are; the run's own super-network is not touched.
    Returns: the super-network that holds the trained sub-network.
    Raises: SearchError where the recipe has no stage whose terms and learning rate could be used.
    """
    if not recipe.stage:
        raise SearchError("--finetune trains by the recipe's last stage, but the recipe has none: leave it out")
    stage = recipe.stage[-1]
    student, teacher = load_supernet(folder, recipe), load_supernet(folder, recipe)
    teacher.requires_grad_(False)
    terms = [(TERMS.name_of(term), term) for term in stage.terms]
    step = ElasticStep(student, terms, teacher)
    training = replace(stage.training, max_steps=steps, weight_decay=0.0)
    checkpoints = folder.search / "finetune"
    remove(checkpoints)
    job = trainer.Job(
        "finetune winner", step, recipe.space.to_space(student.topology), FixedSubnet(spec), training, recipe.seed
    )
    trainer.run_stage(job, recipe.task.load(str(folder.supernet)), recipe.machine, checkpoints, report)
    remove(checkpoints)
    student.eval()
    example = backbone_for(student.model).example(student.model, 2, 16)
    processor = AutoProcessor.from_pretrained(folder.supernet, trust_remote_code=False)
    export(student, spec, processor, example, folder.search / "finetuned", dtype_of(student))
    return student
