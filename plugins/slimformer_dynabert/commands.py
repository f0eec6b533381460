"""The commands that DynaBERT adds to `slimformer`; torch is imported only when one of them computes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from slimformer.cli.options import JsonOption, SetOption, open_run, path, quiet_libraries, show
from slimformer.errors import DataError, SlimformerError


def augment(
    recipe: Annotated[Path, typer.Argument(parser=path, help="A recipe with a text task, e.g. recipes/dynabert_glue.toml.")],
    to: Annotated[Path, typer.Option("--to", parser=path, help="The file to write, e.g. augmented.jsonl.")],
    overrides: SetOption = [],  # noqa: B006
    masked_lm: Annotated[
        str, typer.Option(help="A checkpoint with a masked-LM head; by default the recipe's, e.g. bert-base-uncased.")
    ] = "",
    vectors: Annotated[
        Path | None,
        typer.Option(
            parser=path,
            help="Word vectors such as GloVe's, for words of several pieces; without, these words stay as they are.",
        ),
    ] = None,
    repeats: Annotated[
        int, typer.Option(min=0, help="Attempts for each text; 0: the task's own number (GLUE: 10 to 30, by subset).")
    ] = 0,
    probability: Annotated[float, typer.Option(min=0, max=1, help="With which a word is replaced.")] = 0.4,
    candidates: Annotated[int, typer.Option(min=1, help="Words from which a replacement is drawn.")] = 15,
    beside_original: Annotated[
        bool, typer.Option("--beside-original", help="Show the masked LM the untouched text too, as TinyBERT's code does.")
    ] = False,
    seed: Annotated[int, typer.Option(min=0, help="Of the draws.")] = 0,
    batch_size: Annotated[int, typer.Option(min=1, help="Texts that the masked LM reads at a time.")] = 32,
    as_json: JsonOption = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress.")] = False,
) -> None:
    """Vary a task's training texts by a masked language model and word vectors, as DynaBERT's data augmentation does.

    A recipe trains on the file with [bold]--set task.augmented=FILE[/] where a stage says [bold]examples = "augmented"[/]
    (recipes/dynabert_glue_augmented.toml). Stopped, the same command goes on and writes the same file.
    """
    from slimformer.recipe import read_recipe
    from slimformer.tasks import TASKS
    from slimformer_text.text import Augmentable, held_out_and_learnt, limits_of

    parsed = read_recipe(recipe, overrides)
    task = parsed.task
    if not isinstance(task, Augmentable):
        names = ", ".join(name for name, cls in TASKS if issubclass(cls, Augmentable))
        raise DataError(f"task {TASKS.name_of(task)!r} has no texts to vary; tasks that have some: {names}")
    from slimformer import checkpoints as checkpoint
    from slimformer.cli.console import ConsoleReport
    from slimformer_dynabert.augment import Job, augment as augment_rows
    from slimformer_dynabert.augmentation import Augmentation

    quiet_libraries()
    rows = task.training_rows()
    own = (parsed.model.checkpoint, parsed.model.fallback, parsed.model.sha256)
    source = checkpoint.resolve(masked_lm) if masked_lm else checkpoint.resolve(*own)
    how = Augmentation(repeats or task.repeats(), probability, candidates, beside_original, seed)
    job = Job(rows, held_out_and_learnt(len(rows), limits_of(task))[1], source, vectors, how, batch_size)
    found = augment_rows(job, to, ConsoleReport(quiet=quiet))
    show({"file": str(to)} | found, as_json, lambda: _augmented(found, to, vectors))


def attention(
    run: Annotated[Path | None, typer.Argument(parser=path, help="A run folder. By default the last run in runs/.")] = None,
    sentences: Annotated[list[str], typer.Option("--sentence", help="The text to read; twice for a pair.")] = [],  # noqa: B006
    subnets: Annotated[
        list[str], typer.Option("--subnet", help="As in evaluate, e.g. w0.5-d0.5; by default the smallest. Repeatable.")
    ] = [],  # noqa: B006
    shown: Annotated[
        list[int], typer.Option("--block", help="A block whose maps are drawn, from 0; by default the last. Repeatable.")
    ] = [],  # noqa: B006
    examples: Annotated[
        int, typer.Option(min=0, help="Labelled examples on which the heads' importance is measured; 0: not at all.")
    ] = 128,
    to: Annotated[
        Path | None, typer.Option("--to", parser=path, help="The folder of the pictures; by default RUN/attention.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Draw the attention maps and the importance of heads, of the super-network beside sub-networks, for a sentence.

    Example: [bold]slimformer attention runs/mrpc --sentence "The film is good." --subnet w0.5 --subnet w0.25-d0.5[/]
    """
    if len(sentences) not in (1, 2):
        raise SlimformerError("write the text to read: --sentence TEXT, and a second --sentence TEXT for a pair")
    folder, recipe = open_run(run)
    from slimformer_dynabert.attention import blocks_to_show, look
    from slimformer_dynabert.attention_pictures import draw

    quiet_libraries()
    found = look(folder, recipe, sentences, subnets, examples)
    blocks = blocks_to_show(found, shown)
    pictures = draw(found, blocks, to or folder.path / "attention")
    document = found.to_json(blocks) | {"pictures": [str(picture) for picture in pictures]}
    show(document, as_json, lambda: [*(_moved_lines(document, blocks)), *(f"picture: {picture}" for picture in pictures)])


def _moved_lines(document: dict[str, Any], blocks: list[int]) -> list[str]:
    """For each sub-network and shown block: how far its heads moved towards those that it dropped."""
    lines = []
    for network in document["networks"][1:]:
        for block in network["blocks"]:
            if block["block"] in blocks and block["moved_towards_dropped"] is not None:
                lines.append(
                    f"{network['name']}, block {block['block']}: its {len(block['heads'])} heads are "
                    f"{block['moved_towards_dropped']:+.3f} more like the dropped ones than they are in the super-network "
                    "(1 is the same)"
                )
    return lines


def _augmented(found: dict[str, Any], to: Path, vectors: Path | None) -> list[str]:
    words = found["masked_lm"] + found["vectors"] + found["none"]
    lines = [
        f"{found['written']} variants of {found['rows']} examples are in {to}",
        f"of {words} words {found['masked_lm']} got candidates from the masked LM, {found['vectors']} from word vectors; "
        f"{found['none']} stay as they are",
    ]
    return lines if vectors else [*lines, "words of several pieces were left alone: give word vectors with --vectors"]
