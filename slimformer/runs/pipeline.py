"""The order of things: from a recipe to a super-network and the table of its sub-networks."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import torch

from slimformer import checkpoints
from slimformer.axes.space import Point, Space
from slimformer.backbones.base import backbone_for
from slimformer.costs.prices import stated_unit
from slimformer.distillation import TERMS, Labels
from slimformer.distillation.samplers import Largest
from slimformer.files import reading, write_whole, writing
from slimformer.importance import load_scores, save_scores
from slimformer.progress import Report
from slimformer.recipe.schema import Recipe, StageTable
from slimformer.rewiring import Rewiring
from slimformer.runs.folder import RunFolder
from slimformer.runs.load import from_recipe
from slimformer.runs.metrics_log import MetricsLog, write_environment
from slimformer.runs.outcome import write_results
from slimformer.runs.preflight import check_lengths, recipe_pricers, try_terms
from slimformer.runs.ratings import RatingKey, Ratings
from slimformer.runs.reuse import take_over
from slimformer.supernet.network import SuperNet
from slimformer.supernet.spec import SubnetSpec
from slimformer.tasks.base import TaskData
from slimformer.tasks.evaluation import batches, evaluate
from slimformer.training import trainer
from slimformer.training.processes import Processes
from slimformer.training.step import ElasticStep


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
    ratings: Ratings
    started_with: set[str] = field(default_factory=set)

    @staticmethod
    def open(recipe: Recipe, folder: RunFolder, report: Report, start: RunFolder | None = None) -> Workshop:
        """Find the weights, load the data and make the run folder, with what it begins with."""
        processes = Processes()
        with processes.first_only() as first:
            if first:
                folder.begin(recipe)
                write_environment(folder)
                taken = take_over(recipe, folder, start) if start else ""
        source = checkpoints.resolve(recipe.model.checkpoint, recipe.model.fallback, recipe.model.sha256)
        report.say(f"run folder {folder.path}")
        if first and taken:
            report.say(taken)
        with from_recipe(recipe.model.checkpoint):
            data = recipe.task.load(source)
        sizes = ", ".join(f"{name} {len(split)}" for name, split in data.evaluation.items())
        report.say(f"data: train {len(data.train)}, calibration {len(data.calibration)}, {sizes} examples")
        return Workshop(
            recipe, folder, MetricsLog(folder, report, processes), processes, source, data, Ratings(folder), folder.done()
        )

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
        with from_recipe(self.recipe.model.checkpoint):
            supernet = self.load(self.checkpoint)
        self._check(supernet)
        if self.recipe.finetune.epochs or self.recipe.finetune.max_steps:
            step = ElasticStep(supernet, [("labels", Labels())], teacher=supernet)
            space = self.space(supernet).restrict(())
            self._train(trainer.Job("finetune", step, space, Largest(), self.recipe.finetune, self.recipe.seed), self.data)
        self._save("base", supernet)
        return supernet

    def _check(self, supernet: SuperNet) -> None:
        """Meet the errors that only the model and the data show, before anything is trained."""
        trainer.check_trackers(self.recipe.machine)
        check_lengths(supernet, self.data)
        space = self.space(supernet)
        for stage in self.recipe.stage:
            smallest = space.restrict(stage.axes).smallest().spec
            self.data.training(stage.examples)
            try_terms(supernet, self.data, smallest, stage)
        self.data.scoring_examples(self.recipe.importance.split)
        recipe_pricers(supernet, self.recipe, measured=None)

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
        job = trainer.Job(stage.name, step, space, stage.sampler, stage.training, self.recipe.seed)
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

    def _train(self, job: trainer.Job, data: TaskData) -> None:
        trainer.run_stage(job, data, self.recipe.machine, self.folder.checkpoints(job.name), self.report)

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
        specs = {p.spec: p for p in (*((whole,) if snapshot == "base" else ()), *points)}
        todo = self.ratings.missing(RatingKey(snapshot, split, spec) for spec in specs for split in self.data.evaluation)
        if not todo:
            return
        title, metric = f"rate {snapshot}", self.data.metric
        self.report.begin(title, 0, len(todo))
        self.ratings.fill(
            todo,
            lambda key: evaluate(supernet.frozen(key.spec), self.data, key.split, self.recipe.evaluation.batch_size),
            self.processes,
            lambda key, found: self.report.advance(title, -1, {f"{specs[key.spec].name} {metric}": found[metric]}),
        )
        self.report.end(title)

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
        pricers = recipe_pricers(supernet, self.recipe, self.folder.measured)
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
        found = self.ratings.find(RatingKey(snapshot, split, spec))
        if found is None:
            raise RuntimeError(f"{snapshot} was not rated on {split}")
        return found
