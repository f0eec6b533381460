"""Run a recipe: fine-tune, score and rewire, train the stages, evaluate every sub-network, write the results."""

from __future__ import annotations

from functools import partial

from slimformer.costs.prices import stated_unit
from slimformer.errors import RunError
from slimformer.progress import Report
from slimformer.recipe.schema import Recipe
from slimformer.reports.run_results import ResultRow, RunResults
from slimformer.rewiring import Rewiring
from slimformer.runs.context import RunContext, open_run
from slimformer.runs.folder import RunFolder
from slimformer.runs.outcome import read_results, write_results
from slimformer.runs.preflight import coinciding, recipe_pricers
from slimformer.runs.ratings import Metrics, RatingKey
from slimformer.runs.recipe_file import begin
from slimformer.runs.sources import check_sources
from slimformer.runs.steps import evaluate_grid, finetune, save_supernet, score_and_rewire, train_stage
from slimformer.supernet.network import SuperNet
from slimformer.supernet.spec import SubnetSpec


def run(recipe: Recipe, folder: RunFolder, report: Report, start: RunFolder | None = None) -> RunResults:
    """Do a whole run, or what is left of it; every finished step is read back from the folder.

    start: another run, whose finished steps this one begins with as far as both recipes make them alike.
    Raises: RunError where the folder holds another run or a file that it read has changed; errors of the steps.
    """
    if folder.is_finished():
        begin(folder, recipe)
        check_sources(folder)
        report.say(f"the run in {folder.path} is finished")
        return read_results(folder)
    context = open_run(recipe, folder, report, start)
    base = context.once("base", partial(finetune, context), partial(context.reload, "base"))
    for line in coinciding(context.space(base)):
        report.say(line)
    evaluate_grid("base", base, context)
    rewiring = context.once(
        "rewiring",
        partial(score_and_rewire, recipe.importance, recipe.rewiring, base, context),
        partial(Rewiring.load, folder.rewiring, base.topology),
    )
    rewiring.apply_(base)
    evaluate_grid("rewired", base, context)
    student = base
    for stage in recipe.stage:
        train = partial(train_stage, stage, student, rewiring, context)
        student = context.once(stage.name, train, partial(context.reload, stage.name))
        evaluate_grid(stage.name, student, context)
    with context.processes.first_only() as first:
        if first:
            context.once("supernet", partial(save_supernet, student, rewiring, context), lambda: None)
            write_results(folder, results_of(student, context))
    return read_results(folder)


def results_of(supernet: SuperNet, context: RunContext) -> RunResults:
    """The results of a run whose every point is rated; metrics as `measures` says, costs in the units that `costs` states."""
    recipe, data = context.recipe, context.data
    pricers = recipe_pricers(supernet, recipe, context.folder.measured)
    teacher = {split: _rating(context, "base", split, supernet.topology.full) for split in data.evaluation}
    main, last = data.main_split, recipe.snapshots[-1]
    rows = tuple(
        ResultRow(
            name=point.name,
            ratios=dict(point.ratios),
            spec=point.spec,
            costs={name: price(point.spec) for name, price in pricers.items()},
            metrics={split: _rating(context, last, split, point.spec) for split in data.evaluation},
            snapshots={name: _rating(context, name, main, point.spec)[data.metric] for name in recipe.snapshots},
        )
        for point in context.space(supernet).points()
    )
    return RunResults(
        name=recipe.name,
        metric=data.metric,
        split=main,
        teacher=teacher,
        costs={name: stated_unit(name) for name in pricers},
        rows=rows,
        workload=recipe.evaluation.workload,
        baselines={name: dict(scores) for name, scores in data.baselines.items()},
        measures={name: data.measure(name) for name in teacher[main]},
    )


def _rating(context: RunContext, snapshot: str, split: str, spec: SubnetSpec) -> Metrics:
    found = context.ratings.find(RatingKey(snapshot, split, spec))
    if found is None:
        raise RunError(f"{snapshot} was not rated on {split}: run the same 'slimformer run' command again")
    return found
