"""The steps of a run: fine-tune, score and rewire, train a stage, evaluate the grid, save the super-network."""

from __future__ import annotations

from collections.abc import Sequence

from slimformer.axes.space import Point
from slimformer.distillation import TERMS, Labels
from slimformer.distillation.base import Term
from slimformer.distillation.samplers import Largest
from slimformer.files import write_whole, writing
from slimformer.importance import load_scores, save_scores
from slimformer.recipe.schema import ImportanceTable, StageTable
from slimformer.rewiring import Pass, Rewiring
from slimformer.runs.context import RunContext
from slimformer.runs.finite import check_scores, check_weights
from slimformer.runs.load import from_recipe
from slimformer.runs.preflight import check_before_training
from slimformer.runs.ratings import RatingKey
from slimformer.supernet.network import SuperNet
from slimformer.tasks.base import TaskData
from slimformer.tasks.evaluation import batches, evaluate
from slimformer.training import trainer
from slimformer.training.step import ElasticStep


def finetune(context: RunContext) -> SuperNet:
    """Load the checkpoint, check it against the recipe and the data, fine-tune it, and save it as "base".

    Raises: TopologyError where the model breaks a law; RunError where its weights are not finite.
    """
    recipe = context.recipe
    with from_recipe(recipe.model.checkpoint):
        supernet = context.load(context.checkpoint)
    check_before_training(recipe, supernet, context.data, context.checkpoint)
    if recipe.finetune.epochs or recipe.finetune.max_steps:
        step = ElasticStep(supernet, [("labels", Labels())], teacher=supernet)
        space = context.space(supernet).restrict(())
        _train(context, trainer.Job("finetune", step, space, Largest(), recipe.finetune, recipe.seed), context.data)
    _save(context, "base", supernet)
    return supernet


def score_and_rewire(table: ImportanceTable, rewiring: Pass, base: SuperNet, context: RunContext) -> Rewiring:
    """Score the units of the base model in the first process, and let the rewiring pass order them.

    Raises: RunError where a score is not finite, or a scorer that reads data gives every unit the score 0.
    """
    with context.processes.first_only() as first:
        if first:
            _score(table, rewiring, base, context)
    return Rewiring.load(context.folder.rewiring, base.topology)


def _score(table: ImportanceTable, rewiring: Pass, base: SuperNet, context: RunContext) -> None:
    folder = context.folder
    needed = context.data.scoring_examples(table.split) if table.scorer.needs_data else []
    examples = table.max_examples or len(needed)
    context.report.say(f"scoring units on {min(examples, len(needed))} examples of {table.split}")
    scores = table.scorer(base, batches(needed, context.data.collate, table.batch_size, table.max_examples))
    check_scores(scores, table.scorer.needs_data, context.report)
    with writing(folder.path):
        write_whole(folder.scores, lambda partial: save_scores(scores, partial))
        found = rewiring(base.topology, load_scores(folder.scores, base.topology))
        write_whole(folder.rewiring, found.save)
    folder.mark("rewiring")


def train_stage(stage: StageTable, student: SuperNet, rewiring: Rewiring, context: RunContext) -> SuperNet:
    """Train the student through one stage, in place, and save it under the stage's name."""
    in_place = stage.teacher == "largest"
    teacher = student if in_place else _teacher(stage.teacher, rewiring, context)
    step = ElasticStep(student, _named(stage.terms), teacher, stage.follow, in_place)
    space = context.space(student).restrict(stage.axes)
    job = trainer.Job(stage.name, step, space, stage.sampler, stage.training, context.recipe.seed)
    _train(context, job, context.data.training(stage.examples))
    _save(context, stage.name, student)
    return student


def _named(terms: Sequence[Term]) -> list[tuple[str, Term]]:
    """The terms with their names in the log; those of one kind are numbered."""
    names = [TERMS.name_of(term) for term in terms]
    return [
        (name if names.count(name) == 1 else f"{name}.{index}", term)
        for index, (name, term) in enumerate(zip(names, terms, strict=True))
    ]


def _teacher(snapshot: str, rewiring: Rewiring, context: RunContext) -> SuperNet:
    teacher = context.reload(snapshot)
    if snapshot == "base":
        rewiring.apply_(teacher)
    teacher.requires_grad_(False)
    teacher.eval()
    return teacher


def _train(context: RunContext, job: trainer.Job, data: TaskData) -> None:
    trainer.run_stage(job, data, context.recipe.machine, context.folder.checkpoints(job.name), context.report)
    check_weights(job.step.supernet.model, f"after stage {job.name!r}")


def _save(context: RunContext, snapshot: str, supernet: SuperNet) -> None:
    folder = context.folder
    with context.processes.first_only() as first:
        if first:
            folder.save_model(folder.model(snapshot), supernet.model, context.data.processor)
            folder.mark(snapshot)
            folder.drop_checkpoints("finetune" if snapshot == "base" else snapshot)


def evaluate_grid(snapshot: str, supernet: SuperNet, context: RunContext) -> None:
    """Evaluate every sub-network of the grid on every evaluation split, if this point of the run is to be rated.

    Of "base" the full-size network, which is the teacher, is always evaluated.
    """
    recipe, data = context.recipe, context.data
    whole = (Point((), supernet.topology.full),) if snapshot == "base" else ()
    points = context.space(supernet).points() if snapshot in recipe.snapshots else ()
    names = {point.spec: point.name for point in (*whole, *points)}
    missing = context.ratings.missing(RatingKey(snapshot, split, spec) for spec in names for split in data.evaluation)
    if not missing:
        return
    title = f"rate {snapshot}"
    context.report.begin(title, 0, len(missing))
    context.ratings.fill(
        missing,
        lambda key: evaluate(supernet.frozen(key.spec), data, key.split, recipe.evaluation.batch_size),
        context.processes,
        lambda key, found: context.report.advance(title, -1, {f"{names[key.spec]} {data.metric}": found[data.metric]}),
    )
    context.report.end(title)


def save_supernet(supernet: SuperNet, rewiring: Rewiring, context: RunContext) -> None:
    """Save the finished super-network with its rewiring; called in the first process."""
    folder = context.folder
    folder.save_model(folder.supernet, supernet.model, context.data.processor)
    with writing(folder.supernet):
        write_whole(folder.supernet / "rewiring.json", rewiring.save)
    folder.mark("supernet")
