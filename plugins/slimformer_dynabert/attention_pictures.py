"""Pictures of attention: the maps of a block's heads, network by network, and how much each head counts."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from slimformer.files import write_whole, writing
from slimformer_dynabert.attention import Look, Network

LABELLED = 24
"""Tokens up to which a map's axes name them."""


def draw(found: Look, blocks: Sequence[int], folder: Path) -> list[Path]:
    """Write the pictures: block-N.png for each block, and heads.png."""
    import matplotlib

    matplotlib.use("Agg")
    pictures = [folder / f"block-{block}.png" for block in blocks]
    with writing(folder):
        for block, picture in zip(blocks, pictures, strict=True):
            write_whole(picture, partial(draw_maps, found, block))
        write_whole(folder / "heads.png", partial(draw_heads, found, blocks[0]))
    return [*pictures, folder / "heads.png"]


def draw_maps(found: Look, block: int, path: Path) -> None:
    """A row for each network, a column for each head of the super-network; dropped heads are blank."""
    from matplotlib import pyplot

    whole = found.networks[0].blocks[block]
    networks = [network for network in found.networks if block in network.blocks]
    rows, columns, labelled = len(networks), whole.kept, len(found.tokens) <= LABELLED
    side = max(1.5, 0.11 * len(found.tokens)) if labelled else 1.8
    size = (side * columns + 1.6, side * rows + 1.9)
    figure, panels = pyplot.subplots(rows, columns, figsize=size, squeeze=False, layout="constrained")
    for row, network in zip(panels, networks, strict=True):
        shown = network.blocks[block]
        for position, panel in enumerate(row):
            panel.set_xticks([])
            panel.set_yticks([])
            if position >= shown.kept:
                panel.axis("off")
                continue
            image = panel.imshow(shown.maps[position], vmin=0, vmax=1, cmap="viridis")
            score = f", {shown.importance[position]:.2g}" if shown.importance else ""
            panel.set_title(f"head {shown.heads[position]}{score}", fontsize=8)
        row[0].set_ylabel(network.name, fontsize=9)
        if labelled:
            row[0].set_yticks(range(len(found.tokens)), found.tokens, fontsize=6)
    if labelled:
        for position in range(columns):
            last = max(i for i, network in enumerate(networks) if position < network.blocks[block].kept)
            panels[last][position].set_xticks(range(len(found.tokens)), found.tokens, fontsize=6, rotation=90)
    figure.colorbar(image, ax=panels, shrink=0.6, label="attention")
    figure.suptitle(
        f"Block {block}: what each head attends to (rows: from, columns: to)\n"
        "heads by their number in the checkpoint, in the order of the rewiring" + ("; importance" if whole.importance else ""),
        fontsize=10,
    )
    figure.savefig(path, dpi=130, format="png")
    pyplot.close(figure)


def draw_heads(found: Look, block: int, path: Path) -> None:
    """For each network the importance of every head, and below how like the super-network's maps its own are in a block."""
    from matplotlib import pyplot

    networks = found.networks
    size = (3.9 * len(networks) + 1.2, 7.6)
    figure, panels = pyplot.subplots(2, len(networks), figsize=size, squeeze=False, layout="constrained")
    for network, upper, lower in zip(networks, *panels, strict=True):
        _importance(found, network, upper)
        _similarity(found, network, block, lower)
        upper.set_title(network.name, fontsize=10)
    figure.suptitle(
        "Above: importance of the heads, share of the block's most important. "
        f"Below: likeness of the maps in block {block}, 1 is the same",
        fontsize=10,
    )
    figure.savefig(path, dpi=130, format="png")
    pyplot.close(figure)


def _importance(found: Look, network: Network, panel: Any) -> None:
    import numpy as np

    whole = found.networks[0].blocks
    table = np.full((len(whole), max(block.kept for block in whole.values())), np.nan)
    for row, number in enumerate(whole):
        shown = network.blocks.get(number)
        if shown is not None and shown.importance:
            table[row, list(shown.heads)] = np.array(shown.importance) / (max(shown.importance) or 1.0)
    panel.set_facecolor("lightgrey")
    image = panel.imshow(table, vmin=0, vmax=1, cmap="magma", aspect="auto")
    panel.set_xlabel("head (grey: dropped)", fontsize=8)
    panel.set_ylabel("block", fontsize=8)
    panel.set_yticks(range(len(whole)), list(whole), fontsize=7)
    panel.set_xticks(range(table.shape[1]), range(table.shape[1]), fontsize=7)
    panel.figure.colorbar(image, ax=panel, shrink=0.8)


def _similarity(found: Look, network: Network, block: int, panel: Any) -> None:
    whole, shown = found.networks[0].blocks[block], network.blocks.get(block)
    if shown is None:
        panel.axis("off")
        panel.text(0.5, 0.5, f"without block {block}", ha="center", va="center", fontsize=9)
        return
    image = panel.imshow(shown.similarity, vmin=0, vmax=1, cmap="viridis", aspect="auto")
    panel.set_xticks(range(whole.kept), whole.heads, fontsize=7)
    panel.set_yticks(range(shown.kept), shown.heads, fontsize=7)
    panel.axvline(shown.kept - 0.5, color="white", linewidth=1)
    moved = found.moved(network, block)
    said = "" if moved is None else f"\nright of the line: dropped; moved towards them by {moved:+.3f}"
    panel.set_xlabel(f"head of the super-network{said}", fontsize=8)
    panel.set_ylabel(f"head of {network.name}", fontsize=8)
    panel.figure.colorbar(image, ax=panel, shrink=0.8)
