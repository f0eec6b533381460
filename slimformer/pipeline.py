"""The order of things: from a recipe to a super-network and the table of its sub-networks."""

from __future__ import annotations

import json
import platform
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import torch

from slimformer import checkpoint, train
from slimformer.backbone import backbone_for
from slimformer.cost import COSTS, Pricer, counted_costs
from slimformer.data import Outputs, to_device
from slimformer.distill import TERMS, Labels
from slimformer.distill.forward import forward
from slimformer.distill.step import ElasticStep, follow_spec
from slimformer.errors import RunError
from slimformer.evaluation import batches, evaluate, tokens_in
from slimformer.export import load as load_exported
from slimformer.importance import load_scores, save_scores
from slimformer.processes import Processes
from slimformer.recipe import Recipe, StageTable
from slimformer.results import write_results
from slimformer.reuse import take_over
from slimformer.rewiring import Rewiring
from slimformer.rundir import RunFolder, append_line, reading, write_text, write_whole, writing
from slimformer.sampling import Largest
from slimformer.space import Point, Space
from slimformer.supernet import SuperNet
from slimformer.task import TaskData
from slimformer.topology import SubnetSpec


class Report(train.Progress, Protocol):
    """What tells the user how a run goes."""

    def say(self, text: str) -> None: ...


def run(recipe: Recipe, folder: RunFolder, report: Report, start: RunFolder | None = None) -> dict[str, Any]:
    """Do a whole run, or what is left of it; every finished step is read back from the folder.

    start: another run, whose finished steps this one begins with as far as both recipes make them alike.
    Returns: the results, as in results.json.
    """
    if folder.is_finished():
        folder.begin(recipe)
        report.say(f"the run in {folder.path} is finished")
        return folder.read_results()
    work = Workshop.open(recipe, folder, report, start)
    base = work.base()
    work.rate("base", base)
    rewiring = work.rewiring(base)
    rewiring.apply_(base)
    work.rate("rewired", base)
    student = base
    for stage in recipe.stage:
        student = work.stage(stage, student, rewiring)
        work.rate(stage.name, student)
    work.finish(student, rewiring)
    return folder.read_results()


@dataclass
class Workshop:
    """What the steps of a run share."""

    recipe: Recipe
    folder: RunFolder
    report: Report
    processes: Processes
    checkpoint: str
    data: TaskData
    started_with: set[str] = field(default_factory=set)

    @staticmethod
    def open(recipe: Recipe, folder: RunFolder, report: Report, start: RunFolder | None = None) -> Workshop:
        """Find the weights, load the data and make the run folder, with what it begins with."""
        processes = Processes()
        with processes.first_only() as first:
            if first:
                folder.begin(recipe)
                _write_environment(folder)
                taken = take_over(recipe, folder, start) if start else ""
        source = checkpoint.resolve(recipe.model.checkpoint, recipe.model.fallback, recipe.model.sha256)
        report.say(f"run folder {folder.path}")
        if first and taken:
            report.say(taken)
        with checkpoint.from_recipe(recipe.model.checkpoint):
            data = recipe.task.load(source)
        sizes = ", ".join(f"{name} {len(split)}" for name, split in data.evaluation.items())
        report.say(f"data: train {len(data.train)}, calibration {len(data.calibration)}, {sizes} examples")
        return Workshop(recipe, folder, _Recorder(folder, report, processes), processes, source, data, folder.done())

    def load(self, source: str) -> SuperNet:
        """A super-network from a checkpoint, on this process's device."""
        torch.manual_seed(self.recipe.seed)
        model = self.recipe.task.load_model(source, self.recipe.model.attention)
        return SuperNet(model, backbone_for(model, self.recipe.model.backbones).topology(model)).to(self.processes.device)

    def reload(self, snapshot: str) -> SuperNet:
        """The model of a point of the run, as this run saved it."""
        with reading(self.folder.model(snapshot)):
            return self.load(str(self.folder.model(snapshot)))

    def space(self, supernet: SuperNet) -> Space:
        return self.recipe.space.on(supernet.topology)

    def base(self) -> SuperNet:
        """The fine-tuned model."""
        if "base" in self.started_with:
            return self.reload("base")
        with checkpoint.from_recipe(self.recipe.model.checkpoint):
            supernet = self.load(self.checkpoint)
        self._check(supernet)
        if self.recipe.finetune.epochs or self.recipe.finetune.max_steps:
            step = ElasticStep(supernet, [("labels", Labels())], teacher=supernet)
            space = self.space(supernet).restrict(())
            self._train(train.Job("finetune", step, space, Largest(), self.recipe.finetune, self.recipe.seed), self.data)
        self._save("base", supernet)
        return supernet

    def _check(self, supernet: SuperNet) -> None:
        """Meet the errors that only the model and the data show, before anything is trained."""
        train.check_trackers(self.recipe.machine)
        check_lengths(supernet, self.data)
        space = self.space(supernet)
        for stage in self.recipe.stage:
            smallest = space.restrict(stage.axes).smallest().spec
            self.data.training(stage.examples)
            try_terms(supernet, self.data, smallest, stage)
        self.data.scoring_examples(self.recipe.importance.split)
        prices(supernet, self.recipe, measured=None)

    def rewiring(self, base: SuperNet) -> Rewiring:
        """Score the units of the base model and let the rewiring pass order them."""
        if "rewiring" not in self.started_with:
            with self.processes.first_only() as first:
                if first:
                    self._score(base)
        return Rewiring.load(self.folder.rewiring, base.topology)

    def _score(self, base: SuperNet) -> None:
        table = self.recipe.importance
        needed = self.data.scoring_examples(table.split) if table.scorer.needs_data else []
        examples = table.max_examples or len(needed)
        self.report.say(f"scoring units on {min(examples, len(needed))} examples of {table.split}")
        scores = table.scorer(base, batches(needed, self.data.collate, table.batch_size, table.max_examples))
        with writing(self.folder.path):
            write_whole(self.folder.scores, lambda partial: save_scores(scores, partial))
            rewiring = self.recipe.rewiring(base.topology, load_scores(self.folder.scores, base.topology))
            write_whole(self.folder.rewiring, rewiring.save)
        self.folder.mark("rewiring")

    def stage(self, stage: StageTable, student: SuperNet, rewiring: Rewiring) -> SuperNet:
        """Train the student through one stage; it is changed in place."""
        if stage.name in self.started_with:
            return self.reload(stage.name)
        terms = [(self._term_name(index, stage), term) for index, term in enumerate(stage.terms)]
        in_place = stage.teacher == "largest"
        teacher = student if in_place else self._teacher(stage.teacher, rewiring)
        step = ElasticStep(student, terms, teacher, stage.follow, in_place)
        space = self.space(student).restrict(stage.axes)
        job = train.Job(stage.name, step, space, stage.sampler, stage.training, self.recipe.seed)
        self._train(job, self.data.training(stage.examples))
        self._save(stage.name, student)
        return student

    def _term_name(self, index: int, stage: StageTable) -> str:
        name = TERMS.name_of(stage.terms[index])
        return name if [TERMS.name_of(term) for term in stage.terms].count(name) == 1 else f"{name}.{index}"

    def _teacher(self, snapshot: str, rewiring: Rewiring) -> SuperNet:
        teacher = self.reload(snapshot)
        if snapshot == "base":
            rewiring.apply_(teacher)
        teacher.requires_grad_(False)
        teacher.eval()
        return teacher

    def _train(self, job: train.Job, data: TaskData) -> None:
        train.run_stage(job, data, self.recipe.machine, self.folder.checkpoints(job.name), self.report)

    def _save(self, snapshot: str, supernet: SuperNet) -> None:
        with self.processes.first_only() as first:
            if first:
                self.folder.save_model(self.folder.model(snapshot), supernet.model, self.data.processor)
                self.folder.mark(snapshot)
                self.folder.drop_checkpoints("finetune" if snapshot == "base" else snapshot)

    def rate(self, snapshot: str, supernet: SuperNet) -> None:
        """Score every sub-network of the grid on every evaluation split, if this point of the run is to be rated."""
        if snapshot not in (*self.recipe.snapshots, "base"):
            return
        whole = Point((), supernet.topology.full)
        points = self.space(supernet).points() if snapshot in self.recipe.snapshots else ()
        todo = [
            (point, split)
            for point in {p.spec: p for p in (*((whole,) if snapshot == "base" else ()), *points)}.values()
            for split in self.data.evaluation
            if self.folder.rating(snapshot, split, point.spec) is None
        ]
        if not todo:
            return
        title = f"rate {snapshot}"
        self.report.begin(title, 0, len(todo))
        self.processes.share_out(
            todo,
            lambda item: evaluate(supernet.frozen(item[0].spec), self.data, item[1], self.recipe.evaluation.batch_size),
            lambda item, metrics: self._rated(title, snapshot, item, metrics),
        )
        self.report.end(title)

    def _rated(self, title: str, snapshot: str, item: tuple[Point, str], metrics: Mapping[str, float]) -> None:
        point, split = item
        self.folder.add_rating(snapshot, split, point.spec, metrics)
        self.report.advance(title, -1, {f"{point.name} {self.data.metric}": metrics[self.data.metric]})

    def finish(self, supernet: SuperNet, rewiring: Rewiring) -> None:
        """Write the super-network, the table, the plot and the model card."""
        with self.processes.first_only() as first:
            if first and "supernet" not in self.started_with:
                self.folder.save_model(self.folder.supernet, supernet.model, self.data.processor)
                with writing(self.folder.supernet):
                    write_whole(self.folder.supernet / "rewiring.json", rewiring.save)
                self.folder.mark("supernet")
            if first:
                write_results(self.folder, self._results(supernet))

    def _results(self, supernet: SuperNet) -> dict[str, Any]:
        """The outcome as data; metrics as `measures` says (in percent by default), costs in the units that `costs` states."""
        pricers = prices(supernet, self.recipe, self.folder.measured)
        main = self.data.main_split
        teacher = {split: self._rating("base", split, supernet.topology.full) for split in self.data.evaluation}
        rows = []
        for point in self.space(supernet).points():
            last = {split: self._rating(self.recipe.snapshots[-1], split, point.spec) for split in self.data.evaluation}
            rows.append(
                {
                    "name": point.name,
                    "ratios": dict(point.ratios),
                    "spec": point.spec.to_json(),
                    "costs": {name: price(point.spec) for name, price in pricers.items()},
                    "metrics": last,
                    "snapshots": {
                        name: self._rating(name, main, point.spec)[self.data.metric] for name in self.recipe.snapshots
                    },
                }
            )
        return {
            "name": self.recipe.name,
            "metric": self.data.metric,
            "measures": {name: asdict(self.data.measure(name)) for name in teacher[main]},
            "split": main,
            "teacher": teacher,
            "baselines": {name: dict(scores) for name, scores in self.data.baselines.items()},
            "costs": {name: stated_unit(name) for name in pricers},
            "workload": {
                "batch_size": self.recipe.evaluation.workload.batch_size,
                "length": self.recipe.evaluation.workload.length,
            },
            "rows": rows,
        }

    def _rating(self, snapshot: str, split: str, spec: SubnetSpec) -> dict[str, float]:
        found = self.folder.rating(snapshot, split, spec)
        if found is None:
            raise RuntimeError(f"{snapshot} was not rated on {split}")
        return found


def prices(supernet: SuperNet, recipe: Recipe, measured: Path | None) -> dict[str, Pricer]:
    """The cost functions that a recipe asks for, ready for one super-network.

    measured: the folder in which measured costs keep what they find; None leaves these costs out.
    """
    backbone, workload = backbone_for(supernet.model, recipe.model.backbones), recipe.evaluation.workload
    counted = counted_costs()
    options = {name: {} if name in counted else {"folder": str(measured)} for name in recipe.evaluation.costs}
    return {
        name: COSTS.build({"name": name} | own).price(supernet, backbone, workload)
        for name, own in options.items()
        if measured or not own
    }


def stated_unit(cost: str) -> str:
    """A cost's unit; for a measured one also by how many threads, which the recipe's workload does not say."""
    unit = COSTS.build(cost).unit
    return unit if cost in counted_costs() else f"{unit}, measured with {count_of(torch.get_num_threads(), 'thread')}"


def count_of(number: int, what: str) -> str:
    return f"{number} {what}" + ("" if number == 1 else "s")


def try_terms(supernet: SuperNet, data: TaskData, spec: SubnetSpec, stage: StageTable) -> None:
    """Compute a stage's loss terms once, on two examples: terms that do not fit the model's outputs raise their errors."""
    batch = to_device(data.collate([data.train[i] for i in range(min(2, len(data.train)))]), next(supernet.parameters()).device)

    def run(spec: SubnetSpec) -> Outputs:
        with torch.no_grad():
            return forward(supernet.frozen(spec), supernet.topology, spec, batch, hidden=True, labels=True)

    student, teacher = run(spec), run(follow_spec(supernet.topology, spec, stage.follow))
    for term in stage.terms:
        term(student, teacher, batch)


def check_lengths(supernet: SuperNet, data: TaskData) -> None:
    """Check that the model takes the longest example of every split, padded as the task pads.

    Raises: WorkloadError.
    """
    backbone = backbone_for(supernet.model)
    for split in (data.train, data.calibration, *data.evaluation.values()):
        longest = max(split, key=tokens_in, default={})
        if tokens_in(longest):
            backbone.example(supernet.model, 1, data.collate([longest])["input_ids"].shape[1])


def load_supernet(folder: RunFolder, recipe: Recipe) -> SuperNet:
    """The finished super-network of a run, in eval mode.

    Raises: RunError where the run is not finished.
    """
    if "supernet" not in folder.done():
        raise RunError(f"the run in {folder.path} is not finished: the same 'slimformer run' command goes on with it")
    with reading(folder.supernet):
        model = load_exported(folder.supernet)
    if recipe.model.attention != "auto":
        model.set_attn_implementation(recipe.model.attention)  # type: ignore[operator]
    return SuperNet(model.eval(), backbone_for(model, recipe.model.backbones).topology(model)).to(Processes().device)


class _Recorder:
    """Passes progress on to the report; the first process also writes every logged number to files."""

    def __init__(self, folder: RunFolder, report: Report, processes: Processes) -> None:
        self._folder = folder
        self._report = report
        self._is_writer = processes.is_first
        self._board: Any = None

    def say(self, text: str) -> None:
        self._report.say(text)

    def begin(self, stage: str, done: int, total: int) -> None:
        """A resumed stage repeats the steps after its checkpoint: their lines are dropped first."""
        if self._is_writer:
            self._folder.forget_metrics(stage, after=done)
        self._report.begin(stage, done, total)

    def advance(self, stage: str, step: int, logs: dict[str, float]) -> None:
        if logs and step >= 0 and self._is_writer:
            with writing(self._folder.path):
                append_line(self._folder.metrics, {"stage": stage, "step": step} | logs)
                self._show_on_board(stage, step, logs)
        self._report.advance(stage, step, logs)

    def end(self, stage: str) -> None:
        if self._board is not None:
            self._board.close()
            self._board = None
        self._report.end(stage)

    def _show_on_board(self, stage: str, step: int, logs: dict[str, float]) -> None:
        """Write to TensorBoard, if it is installed."""
        if find_spec("tensorboard") is None:
            return
        if self._board is None:
            from torch.utils.tensorboard import SummaryWriter

            self._board = SummaryWriter(str(self._folder.tensorboard / stage), purge_step=step)
        for name, value in logs.items():
            self._board.add_scalar(name, value, step)


def _write_environment(folder: RunFolder) -> None:
    packages = ("slimformer", "torch", "transformers", "accelerate", "datasets", "numpy")
    table = {
        "command": sys.argv,
        "python": platform.python_version(),
        "machine": f"{platform.machine()}, {platform.system()} {platform.release()}",
        "threads": torch.get_num_threads(),
        "devices": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
        "packages": {name: version(name) for name in packages},
    }
    with writing(folder.path):
        write_text(folder.path / "environment.json", json.dumps(table, indent=2))
