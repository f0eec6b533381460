"""Import paths of slimformer 0.1, which work for one release with a warning."""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import sys
import warnings
from types import ModuleType

MOVED: dict[str, tuple[str, ...]] = {
    "slimformer.backbone": ("slimformer.backbones.base",),
    "slimformer.builtins": ("slimformer.components",),
    "slimformer.checkpoint": (
        "slimformer.checkpoints",
        "slimformer.runs.load",
    ),
    "slimformer.commandline": ("slimformer.cli.options",),
    "slimformer.commands": (
        "slimformer.runs.subnets",
        "slimformer.runs.ratings",
        "slimformer.runs.preflight",
        "slimformer.runs.plan",
    ),
    "slimformer.comparison": (
        "slimformer.runs.compare",
        "slimformer.reports.comparison",
    ),
    "slimformer.console": (
        "slimformer.cli.console",
        "slimformer.reports.results",
        "slimformer.reports.search",
        "slimformer.reports.comparison",
    ),
    "slimformer.cost": ("slimformer.costs.base",),
    "slimformer.data": ("slimformer.supernet.outputs",),
    "slimformer.describe": ("slimformer.backbones.layers",),
    "slimformer.distill": ("slimformer.distillation",),
    "slimformer.distill.base": ("slimformer.distillation.base",),
    "slimformer.distill.embeddings": ("slimformer.distillation.embeddings",),
    "slimformer.distill.forward": ("slimformer.supernet.forward",),
    "slimformer.distill.hidden": ("slimformer.distillation.hidden",),
    "slimformer.distill.labels": ("slimformer.distillation.labels",),
    "slimformer.distill.soft_cross_entropy": ("slimformer.distillation.logits",),
    "slimformer.distill.softened": ("slimformer.distillation.logits",),
    "slimformer.distill.step": ("slimformer.training.step",),
    "slimformer.evaluation": ("slimformer.tasks.evaluation",),
    "slimformer.finetune_one": ("slimformer.runs.finetune",),
    "slimformer.inspection": (
        "slimformer.discovery.inspect",
        "slimformer.reports.inspection",
    ),
    "slimformer.narrow": ("slimformer.supernet.resize",),
    "slimformer.new_backbone": ("slimformer.discovery.new_backbone",),
    "slimformer.options": (
        "slimformer.training.options",
        "slimformer.registry",
    ),
    "slimformer.pipeline": (
        "slimformer.progress",
        "slimformer.runs.pipeline",
        "slimformer.costs.prices",
        "slimformer.runs.preflight",
        "slimformer.runs.plan",
        "slimformer.runs.load",
        "slimformer.runs.metrics_log",
    ),
    "slimformer.pretrained": ("slimformer.checkpoints",),
    "slimformer.processes": ("slimformer.training.processes",),
    "slimformer.proposal": ("slimformer.discovery",),
    "slimformer.quantity": ("slimformer.costs.quantity",),
    "slimformer.recipe_file": (
        "slimformer.recipe.source",
        "slimformer.recipe.reader",
        "slimformer.recipe.table",
        "slimformer.recipe.overrides",
        "slimformer.recipe.diagnostics",
    ),
    "slimformer.recipe_source": ("slimformer.recipe.source", "slimformer.recipe.location"),
    "slimformer.results": (
        "slimformer.reports.results",
        "slimformer.runs.outcome",
    ),
    "slimformer.reuse": ("slimformer.runs.reuse",),
    "slimformer.rundir": (
        "slimformer.files",
        "slimformer.runs.folder",
        "slimformer.runs.recipe_file",
    ),
    "slimformer.sampling": ("slimformer.distillation.samplers",),
    "slimformer.search.ledger": ("slimformer.search.journal",),
    "slimformer.search.moves": ("slimformer.search.neighbours",),
    "slimformer.search_report": (
        "slimformer.reports.search",
        "slimformer.runs.search_outcome",
    ),
    "slimformer.search_run": (
        "slimformer.runs.search",
        "slimformer.tasks.evaluation",
    ),
    "slimformer.space": (
        "slimformer.axes.base",
        "slimformer.axes.space",
    ),
    "slimformer.tables": (
        "slimformer.tasks.files",
        "slimformer.errors",
    ),
    "slimformer.task": ("slimformer.tasks.base",),
    "slimformer.topology": (
        "slimformer.supernet.topology",
        "slimformer.supernet.spec",
    ),
    "slimformer.train": (
        "slimformer.progress",
        "slimformer.training.trainer",
    ),
    "slimformer_dynabert.backbones": ("slimformer_encoders.bert",),
    "slimformer_dynabert.depth": ("slimformer.axes.depth",),
    "slimformer_dynabert.tasks": ("slimformer_text",),
    "slimformer_towers": (
        "slimformer_seq2seq",
        "slimformer_vision",
    ),
}
"""Old module -> the modules that hold its names now, the main one first."""

RENAMED = {
    ("slimformer.finetune_one", "Only"): "FixedSubnet",
    ("slimformer.search.ledger", "Alone"): "SingleProcess",
    ("slimformer.search.ledger", "Ledger"): "Coordinator",
    ("slimformer.search.ledger", "Shared"): "SharedJournal",
    ("slimformer.pipeline", "prices"): "pricers",
    ("slimformer.narrow", "narrow_"): "resize_layers_",
    ("slimformer.narrow", "set_"): "set_attribute_",
    ("slimformer.narrow", "Pick"): "GatherInput",
    ("slimformer.narrow", "pick_"): "gather_input_",
}
"""(old module, old name) -> the name now."""


class OldPaths(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Serve an old module as a module that looks its names up where they are now."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> importlib.machinery.ModuleSpec | None:
        return importlib.machinery.ModuleSpec(name, self, is_package=True) if name in MOVED else None

    def exec_module(self, module: ModuleType) -> None:
        name, homes = module.__name__, MOVED[module.__name__]
        warnings.warn(f"{name} is now {' and '.join(homes)}; the old path goes with the next release", DeprecationWarning, 3)

        def look_up(attribute: str) -> object:
            wanted = RENAMED.get((name, attribute), attribute)
            for home in homes:
                found = importlib.import_module(home)
                if hasattr(found, wanted):
                    return getattr(found, wanted)
            raise AttributeError(f"module {name!r} has no attribute {attribute!r}")

        module.__dict__["__getattr__"] = look_up


def serve_old_paths() -> None:
    """Make the old import paths work."""
    if not any(isinstance(finder, OldPaths) for finder in sys.meta_path):
        sys.meta_path.append(OldPaths())
