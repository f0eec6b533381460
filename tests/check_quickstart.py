"""Checks that a finished quick-start run learnt what it should: `python tests/check_quickstart.py runs/quickstart`."""

import json
import sys
from pathlib import Path

FULL_SIZE_LOSS = 4.0  # percentage points that the full-size sub-network may lose against its teacher
ABOVE_MAJORITY = 30.0  # percentage points by which the smallest sub-network must beat the most frequent class


def problems(results: dict) -> list[str]:
    """What is wrong with the numbers, a line each."""
    split, metric = results["split"], results["metric"]
    scores = {row["name"]: row["metrics"][split][metric] for row in results["rows"]}
    full, smallest = results["rows"][0]["name"], results["rows"][-1]["name"]
    teacher, majority = results["teacher"][split][metric], results["baselines"]["most frequent class"][metric]
    found = []
    if scores[full] < teacher - FULL_SIZE_LOSS:
        found.append(f"{full} has {scores[full]:.2f}, its teacher {teacher:.2f}")
    if scores[smallest] < majority + ABOVE_MAJORITY:
        found.append(f"{smallest} has {scores[smallest]:.2f}, the most frequent class alone {majority:.2f}")
    for row in results["rows"]:
        if row["snapshots"]["base"] > scores[row["name"]] + FULL_SIZE_LOSS:
            found.append(f"{row['name']} has {scores[row['name']]:.2f}, and {row['snapshots']['base']:.2f} untrained")
    return found


if __name__ == "__main__":
    lines = problems(json.loads((Path(sys.argv[1]) / "results.json").read_text()))
    print("\n".join(lines) or "the quick start's numbers are as they should be")
    sys.exit(bool(lines))
