"""Load the model of a recipe and the super-network of a finished run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from slimformer.backbones.base import backbone_for
from slimformer.checkpoints import locate
from slimformer.errors import CheckpointError, RunError
from slimformer.export.load import from_pretrained
from slimformer.files import reading
from slimformer.recipe.schema import Recipe
from slimformer.runs.folder import RunFolder
from slimformer.supernet.network import SuperNet
from slimformer.training.processes import Processes


@contextmanager
def from_recipe(checkpoint: str) -> Iterator[None]:
    """Say, where weights or a tokenizer cannot be loaded, which value of the recipe named them, and what was wrong with it.

    checkpoint: the recipe's first choice; it was not to be had if what failed to load was the fallback.
    """
    try:
        yield
    except CheckpointError as error:
        try:
            locate(checkpoint)
        except CheckpointError as first:
            raise CheckpointError(f"model.checkpoint: {first}; nor can the fallback be had: {error}") from error
        raise CheckpointError(f"model.checkpoint: {error}") from error


def load_supernet(folder: RunFolder, recipe: Recipe) -> SuperNet:
    """The finished super-network of a run, in eval mode.

    Raises: RunError where the run is not finished.
    """
    if "supernet" not in folder.done():
        raise RunError(f"the run in {folder.path} is not finished: the same 'slimformer run' command goes on with it")
    with reading(folder.supernet):
        model = from_pretrained(folder.supernet)
    if recipe.model.attention != "auto":
        model.set_attn_implementation(recipe.model.attention)  # type: ignore[operator]
    return SuperNet(model.eval(), backbone_for(model, recipe.model.backbones).topology(model)).to(Processes().device)
