"""Entities in a sequence of tags, and their F1, by the rules of CoNLL's `conlleval` and of seqeval's default mode."""

from __future__ import annotations

from collections.abc import Sequence

Entity = tuple[int, int, str]
"""First word, last word, type."""

OUTSIDE = "O"


def entities(tags: Sequence[str]) -> set[Entity]:
    """The entities of a sentence: an entity goes on while tags have its type and do not begin another.

    Tags are O or PREFIX-TYPE, the prefix B (begins), I (inside), E (ends) or S (stands alone). An entity that begins with
    I or E, as in the scheme IOB1 or in a faulty prediction, is one too.
    """
    found: set[Entity] = set()
    first, before = 0, ("", "")
    for index, tag in enumerate([*tags, OUTSIDE]):
        now = _split(tag)
        if before[1] and _parts(before, now):
            found.add((first, index - 1, before[1]))
        if now[1] and _parts(before, now):
            first = index
        before = now
    return found


def _split(tag: str) -> tuple[str, str]:
    """(prefix, type) of a tag; a type of "" outside entities, "_" for a bare prefix."""
    if tag == OUTSIDE:
        return OUTSIDE, ""
    prefix, _, kind = tag.partition("-")
    return prefix, kind or "_"


def _parts(before: tuple[str, str], now: tuple[str, str]) -> bool:
    """Whether an entity ends, and perhaps another begins, between two tags."""
    return before[1] != now[1] or before[0] in "ES" or now[0] in "BS"


def entity_scores(gold: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]]) -> dict[str, float]:
    """Micro-averaged precision, recall and F1 over the entities of all sentences; an entity is right if ends and type are."""
    pairs = [(entities(one), entities(other)) for one, other in zip(gold, predicted, strict=True)]
    right = sum(len(one & other) for one, other in pairs)
    wanted, found = sum(len(one) for one, _ in pairs), sum(len(other) for _, other in pairs)
    precision, recall = right / found if found else 0.0, right / wanted if wanted else 0.0
    f1 = 2 * precision * recall / (precision + recall) if right else 0.0
    return {"f1": f1, "precision": precision, "recall": recall}
