"""Evaluate and export sub-networks of a finished run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from slimformer.axes.space import Space
from slimformer.backbones.base import backbone_for
from slimformer.errors import RunError, SpaceError
from slimformer.export.huggingface import dtype_of, export
from slimformer.files import MEND
from slimformer.recipe.schema import Recipe
from slimformer.runs.folder import RunFolder
from slimformer.runs.load import load_supernet
from slimformer.runs.outcome import read_results
from slimformer.runs.ratings import RatingKey, Ratings
from slimformer.supernet.configuration import auto_classes
from slimformer.supernet.names import SubnetNames
from slimformer.supernet.spec import SubnetSpec
from slimformer.tasks.base import Measure
from slimformer.tasks.evaluation import evaluate


@dataclass(frozen=True)
class Evaluation:
    """Metrics of one sub-network on a split. measures: the reading of each metric."""

    name: str
    split: str
    metrics: Mapping[str, float]
    measures: Mapping[str, Measure]
    spec: SubnetSpec

    def to_json(self) -> dict[str, object]:
        """The document of `slimformer evaluate --json`."""
        measures = {metric: asdict(measure) for metric, measure in self.measures.items()}
        return {
            "name": self.name,
            "split": self.split,
            "metrics": dict(self.metrics),
            "measures": measures,
            "spec": self.spec.to_json(),
        }


@dataclass(frozen=True)
class Exported:
    """A sub-network that was written. stock: whether stock code loads it. load: the line of Python that loads it."""

    name: str
    folder: Path
    stock: bool
    load: str
    spec: SubnetSpec

    def to_json(self) -> dict[str, object]:
        """The document of `slimformer export --json`."""
        about = {"name": self.name, "folder": str(self.folder), "stock": self.stock, "load": self.load}
        return about | {"spec": self.spec.to_json()}


def evaluate_run(folder: RunFolder, recipe: Recipe, subnet: str | SubnetSpec, split: str) -> Evaluation:
    """Score one sub-network of a run; it is the full-size one where `subnet` is empty."""
    results = read_results(folder)
    supernet = load_supernet(folder, recipe)
    name, spec = find_subnet(recipe.space.to_space(supernet.topology), subnet)
    split = split or results.split

    def scored() -> dict[str, float]:
        data = recipe.task.load(str(folder.supernet))
        return evaluate(supernet.frozen(spec), data, split, recipe.evaluation.batch_size)

    metrics = Ratings(folder).get(RatingKey(recipe.snapshots[-1], split, spec), scored)
    return Evaluation(name, split, metrics, {metric: results.measure(metric) for metric in metrics}, spec)


def export_run(folder: RunFolder, recipe: Recipe, subnet: str | SubnetSpec, to: Path, dtype: str = "") -> Exported:
    """Write one sub-network of a run as a folder that transformers loads.

    dtype: the weights' number type, as for `dtype_of`.
    """
    if to.exists() and (not to.is_dir() or any(to.iterdir())) and not (to / "subnet.json").is_file():
        raise RunError(f"{to} exists and is no exported sub-network: give another --to folder")
    supernet = load_supernet(folder, recipe)
    name, spec = find_subnet(recipe.space.to_space(supernet.topology), subnet)
    example = backbone_for(supernet.model).example(supernet.model, 2, 16)
    is_stock = export(supernet, spec, processor_of(folder), example, to, dtype_of(supernet, dtype))
    auto = next(iter(auto_classes(supernet.model)), type(supernet.model).__name__)
    flag = "" if is_stock else ", trust_remote_code=True"
    return Exported(name, to, is_stock, f"transformers.{auto}.from_pretrained({str(to)!r}{flag})", spec)


def processor_of(folder: RunFolder) -> Any:
    """The tokenizer (or image processor) that a run saved beside its super-network.

    Raises: RunError.
    """
    from transformers import AutoProcessor

    try:
        return AutoProcessor.from_pretrained(folder.supernet, trust_remote_code=False)
    except Exception as error:  # json, tokenizers and transformers each have their own
        reason = str(error).strip().partition("\n")[0]
        raise RunError(f"the tokenizer in {folder.supernet} is damaged ({reason}): {MEND}") from error


def find_subnet(space: Space, subnet: str | SubnetSpec) -> tuple[str, SubnetSpec]:
    """A sub-network by its name, its spec, or a JSON file with its spec; the largest one where the name is empty.

    Raises: SpaceError, TopologyError.
    """
    if isinstance(subnet, SubnetSpec):
        space.topology.validate(subnet)
        return SubnetNames({point.spec: point.name for point in space.points()}).of(subnet), subnet
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
