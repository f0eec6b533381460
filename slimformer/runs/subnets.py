"""What the commands do with a finished run, as functions that return plain data."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from slimformer.axes.space import Space
from slimformer.backbones.base import backbone_for
from slimformer.errors import RunError, SpaceError
from slimformer.export.huggingface import dtype_of, export
from slimformer.files import MEND
from slimformer.recipe.schema import Recipe
from slimformer.reports.results import measure_of
from slimformer.runs.folder import RunFolder
from slimformer.runs.load import load_supernet
from slimformer.runs.ratings import RatingKey, Ratings
from slimformer.supernet.configuration import auto_classes
from slimformer.supernet.spec import SubnetSpec
from slimformer.tasks.evaluation import evaluate


def evaluate_run(folder: RunFolder, recipe: Recipe, subnet: str, split: str) -> dict[str, Any]:
    """Score one sub-network of a run; it is the full-size one where `subnet` is empty."""
    results = folder.read_results()
    supernet = load_supernet(folder, recipe)
    name, spec = find_subnet(recipe.space.to_space(supernet.topology), subnet)
    split = split or results["split"]

    def scored() -> dict[str, float]:
        data = recipe.task.load(str(folder.supernet))
        return evaluate(supernet.frozen(spec), data, split, recipe.evaluation.batch_size)

    metrics = Ratings(folder).get(RatingKey(recipe.snapshots[-1], split, spec), scored)
    measures = {metric: asdict(measure_of(results, metric)) for metric in metrics}
    return {"name": name, "split": split, "metrics": metrics, "measures": measures, "spec": spec.to_json()}


def export_run(folder: RunFolder, recipe: Recipe, subnet: str, to: Path, dtype: str = "") -> dict[str, Any]:
    """Write one sub-network of a run as a folder that transformers loads.

    dtype: the weights' number type, as for `dtype_of`.
    """
    if to.exists() and (not to.is_dir() or any(to.iterdir())) and not (to / "subnet.json").is_file():
        raise RunError(f"{to} exists and is no exported sub-network: give another --to folder")
    supernet = load_supernet(folder, recipe)
    name, spec = find_subnet(recipe.space.to_space(supernet.topology), subnet)
    example = backbone_for(supernet.model).example(supernet.model, 2, 16)
    processor = processor_of(folder)
    is_stock = export(supernet, spec, processor, example, to, dtype_of(supernet, dtype))
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
        except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
            raise SpaceError(
                f"{subnet} holds no spec ({error}): give a file with 'units' and 'blocks', as an exported subnet.json"
            ) from None
        space.topology.validate(spec)
        return next((point.name for point in space.points() if point.spec == spec), Path(subnet).stem), spec
    point = space.find(subnet) if subnet else space.largest()
    return point.name, point.spec
