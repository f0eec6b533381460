"""What the commands do with a finished run, as functions that return plain data."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

from slimformer import checkpoint as checkpoints
from slimformer.backbone import backbone_for
from slimformer.errors import RunError, SpaceError
from slimformer.evaluation import evaluate
from slimformer.export import auto_classes, export
from slimformer.pipeline import check_lengths, load_supernet, prices
from slimformer.recipe import Recipe
from slimformer.recipe_file import to_table
from slimformer.results import measure_of
from slimformer.reuse import shared_steps
from slimformer.rundir import MEND, RunFolder
from slimformer.space import Space
from slimformer.supernet import SuperNet
from slimformer.topology import SubnetSpec


class Rater:
    """Scores sub-networks of a finished run, each spec and split once; the data is loaded when the first score is needed."""

    def __init__(self, folder: RunFolder, recipe: Recipe, supernet: SuperNet, split: str) -> None:
        self._folder = folder
        self._recipe = recipe
        self._supernet = supernet
        self._split = split
        self._data: Any = None

    def rate(self, spec: SubnetSpec) -> dict[str, float]:
        """The task's metrics of a spec on the split."""
        snapshot = self._recipe.snapshots[-1]
        found = self._folder.rating(snapshot, self._split, spec)
        if found is None:
            if self._data is None:
                self._data = self._recipe.task.load(str(self._folder.supernet))
            batch_size = self._recipe.evaluation.batch_size
            found = evaluate(self._supernet.frozen(spec), self._data, self._split, batch_size)
            self._folder.add_rating(snapshot, self._split, spec, found)
        return found


def evaluate_run(folder: RunFolder, recipe: Recipe, subnet: str, split: str) -> dict[str, Any]:
    """Score one sub-network of a run; it is the full-size one where `subnet` is empty."""
    results = folder.read_results()
    supernet = load_supernet(folder, recipe)
    name, spec = find_subnet(recipe.space.on(supernet.topology), subnet)
    split = split or results["split"]
    metrics = Rater(folder, recipe, supernet, split).rate(spec)
    measures = {metric: asdict(measure_of(results, metric)) for metric in metrics}
    return {"name": name, "split": split, "metrics": metrics, "measures": measures, "spec": spec.to_json()}


def export_run(folder: RunFolder, recipe: Recipe, subnet: str, to: Path) -> dict[str, Any]:
    """Write one sub-network of a run as a folder that transformers loads."""
    if to.exists() and (not to.is_dir() or any(to.iterdir())) and not (to / "subnet.json").is_file():
        raise RunError(f"{to} exists and is no exported sub-network: give another --to folder")
    supernet = load_supernet(folder, recipe)
    name, spec = find_subnet(recipe.space.on(supernet.topology), subnet)
    example = backbone_for(supernet.model).example(supernet.model, 2, 16)
    processor = processor_of(folder)
    is_stock = export(supernet, spec, processor, example, to)
    auto = next(iter(auto_classes(supernet.model)), type(supernet.model).__name__)
    flag = "" if is_stock else ", trust_remote_code=True"
    load = f"transformers.{auto}.from_pretrained({str(to)!r}{flag})"
    return {"name": name, "folder": str(to), "stock": is_stock, "load": load, "spec": spec.to_json()}


def processor_of(folder: RunFolder) -> Any:
    """The tokenizer (or image processor) that a run saved beside its super-network.

    Raises: RunError.
    """
    from transformers import AutoProcessor

    try:
        return AutoProcessor.from_pretrained(folder.supernet)
    except Exception as error:  # json, tokenizers and transformers each have their own
        reason = str(error).strip().partition("\n")[0]
        raise RunError(f"the tokenizer in {folder.supernet} is damaged ({reason}): {MEND}") from error


def find_subnet(space: Space, subnet: str) -> tuple[str, SubnetSpec]:
    """A sub-network by its name or by a JSON file with its spec; the largest one where the name is empty.

    Raises: SpaceError, TopologyError.
    """
    if subnet.endswith(".json"):
        try:
            table = json.loads(Path(subnet).read_text(encoding="utf-8"))
            spec = SubnetSpec.from_json(table.get("spec", table))
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise SpaceError(
                f"{subnet} holds no spec ({error}): give a file with 'units' and 'blocks', as an exported subnet.json"
            ) from None
        space.topology.validate(spec)
        return next((point.name for point in space.points() if point.spec == spec), Path(subnet).stem), spec
    point = space.find(subnet) if subnet else space.largest()
    return point.name, point.spec


def plan(recipe: Recipe, folder: RunFolder, start: RunFolder | None = None) -> dict[str, Any]:
    """What a run would do: sizes, steps and costs, found by loading weights and data but training nothing.

    start: another run, whose finished steps it would begin with.
    """
    shared = {"taken over": list(shared_steps(recipe, start)[0])} if start else {}
    source = checkpoints.resolve(recipe.model.checkpoint, recipe.model.fallback, recipe.model.sha256)
    with checkpoints.from_recipe(recipe.model.checkpoint):
        data = recipe.task.load(source)
        model = recipe.task.load_model(source, recipe.model.attention)
    supernet = SuperNet(model, backbone_for(model, recipe.model.backbones).topology(model))
    space = recipe.space.on(supernet.topology)
    check_lengths(supernet, data)
    pricers = prices(supernet, recipe, measured=None)
    per_step = recipe.machine.batch_size * recipe.machine.gradient_accumulation
    stages = {"finetune": ("train", recipe.finetune)} | {stage.name: (stage.examples, stage.training) for stage in recipe.stage}
    steps = {
        name: training.max_steps or math.ceil(math.ceil(len(data.training(examples).train) / per_step) * training.epochs)
        for name, (examples, training) in stages.items()
    }
    corners = {point.name: {n: p(point.spec) for n, p in pricers.items()} for point in (space.largest(), space.smallest())}
    return {
        "run folder": str(folder.path),
        **shared,
        "model": type(model).__name__,
        "train examples": len(data.train),
        "calibration examples": len(data.calibration),
        "evaluation": {name: len(split) for name, split in data.evaluation.items()},
        "sub-networks": len(space.points()),
        "optimizer steps": steps,
        "costs": corners,
        "recipe": to_table(recipe),
    }
