"""Finds, in one block, the inputs of linear layers that fall into units, and which weights write each unit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from slimformer.discovery.nan_tracing import Source, Tracer

SAMPLES = 16
"""So many entries of each tensor's dimension are poisoned one by one, besides its first and last."""

MOST_PARTS = 8


class TracingError(Exception):
    """Why the inputs of a linear layer are no units.

    sources: the matrices that write these inputs, if some do.
    """

    def __init__(self, reason: str, sources: Sequence[Source] = ()) -> None:
        super().__init__(reason)
        self.sources = sources


@dataclass(frozen=True)
class Part:
    """Entries of a dimension that belong to the units in order: `unit_size` for each, from `start`."""

    start: int
    unit_size: int


@dataclass(frozen=True)
class CoupledUnits:
    """A dimension whose entries belong to units."""

    source: Source
    parts: tuple[Part, ...]


@dataclass(frozen=True)
class Candidate:
    """Units that linear layers read, and the parameters that write them; yet to be proven.

    readers: the linear layers and the columns that each reads of a unit.
    """

    number: int
    readers: Mapping[str, int]
    ties: tuple[CoupledUnits, ...]

    @property
    def modules(self) -> tuple[str, ...]:
        """The modules that own something of the units."""
        return tuple(dict.fromkeys([tie.source.name.rpartition(".")[0] for tie in self.ties] + list(self.readers)))


@dataclass(frozen=True)
class Findings:
    """The candidates of a block, and why other linear layers read no units."""

    candidates: tuple[Candidate, ...]
    reasons: Mapping[str, str]


def find_units(tracer: Tracer) -> Findings:
    """Poison entries of every tensor and see which columns of which linear layer they reach.

    A layer's columns are units of `s` columns if every row of every matrix reaches the columns of one unit only (a neuron's
    row one column; a query's row all columns of its head), or none, or all. `s` is the smallest such number.
    """
    samples = {source: _sample(tracer, source) for source in tracer.sources}
    candidates: list[Candidate] = []
    reasons: dict[str, str] = {}
    for reader in tracer.columns:
        seen = {source: [found[reader] for found in sample if reader in found] for source, sample in samples.items()}
        try:
            candidate = _candidate(tracer, reader, seen)
        except TracingError as error:
            reasons.setdefault(reader, str(error))
            reasons |= dict.fromkeys([source.name.rpartition(".")[0] for source in error.sources], f"{reader}: {error}")
        else:
            candidates = _merge(candidates, candidate)
    return Findings(tuple(candidates), reasons)


def _sample(tracer: Tracer, source: Source) -> list[Mapping[str, Tensor]]:
    if not any(columns.any() for columns in tracer.reached(source, 0, source.size).values()):
        return []
    step = max(1, source.size // SAMPLES)
    places = sorted({*range(0, source.size, step), source.size - 1})
    return [tracer.reached(source, place, 1) for place in places]


def _candidate(tracer: Tracer, reader: str, seen: Mapping[Source, Sequence[Tensor]]) -> Candidate:
    columns = tracer.columns[reader]
    partly = {
        source: [c for c in sets if c.any()] for source, sets in seen.items() if any(c.any() and not c.all() for c in sets)
    }
    matrices = [source for source in partly if source.is_matrix]
    if not matrices:
        mixing = [source.name for source, sets in seen.items() if source.is_matrix and source.dim == 0 and any(map(_any, sets))]
        cause = f": every one depends on every row of {mixing[-1]}" if mixing else ""
        raise TracingError(f"its inputs are the residual stream or mixed{cause}")
    sets = [found for source in matrices for found in partly[source]]
    size = next(s for s in range(1, columns + 1) if columns % s == 0 and all(len(_units(found, s)) == 1 for found in sets))
    number = columns // size
    if number == 1:
        names = ", ".join(sorted({source.name for source in matrices}))
        reason = f"no equal runs of its inputs keep apart what {names} write"
        raise TracingError(f"{reason}, as where all heads share one key and value (multi-query attention)", matrices)
    ties = []
    for source, found in partly.items():
        hit = {len(_units(one, size)) for one in found}
        if hit == {number}:  # shared by all units, as a norm's weight over the head size
            continue
        if hit != {1}:
            raise TracingError(f"{source.name} reaches several of its {number} units at once", matrices)
        if source.kind != "parameter":
            reason = f"its {number} units are tied to the {source.kind} {source.name!r}, which has entries for each"
            raise TracingError(reason, matrices)
        parts = _parts(tracer, source, reader, number, size)
        if not parts:
            raise TracingError(f"the entries of {source.name} are not in equal runs for its {number} units", matrices)
        ties.append(CoupledUnits(source, parts))
    return Candidate(number, {reader: size}, tuple(ties))


def _any(columns: Tensor) -> bool:
    return bool(columns.any())


def _units(columns: Tensor, size: int) -> set[int]:
    """The units that hold the poisoned columns."""
    return {int(column) // size for column in columns.nonzero()}


def _parts(tracer: Tracer, source: Source, reader: str, number: int, size: int) -> tuple[Part, ...]:
    """How the entries of a source fall into runs for the units: one part, several in a fused layer, or none."""

    def belongs(start: int, length: int, unit: int) -> bool:
        return _units(tracer.reached(source, start, length)[reader], size) <= {unit}

    parts: list[Part] = []
    start = 0
    while start < source.size and len(parts) < MOST_PARTS:
        low, high = 0, (source.size - start) // number
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if belongs(start, middle, 0) else (low, middle - 1)
        last = start + (number - 1) * low
        if not low or not belongs(last, low, number - 1) or not belongs(start + low, low, 1):
            break
        parts.append(Part(start, low))
        start += number * low
    return tuple(parts) if start == source.size else ()


def _merge(candidates: list[Candidate], new: Candidate) -> list[Candidate]:
    """Add a candidate; one that shares a tie with another is the same units, read by a further layer."""
    ties = set(new.ties)
    for index, old in enumerate(candidates):
        if ties & set(old.ties) and old.number == new.number:
            merged = Candidate(old.number, {**old.readers, **new.readers}, tuple(dict.fromkeys(old.ties + new.ties)))
            return [*candidates[:index], merged, *candidates[index + 1 :]]
    return [*candidates, new]
