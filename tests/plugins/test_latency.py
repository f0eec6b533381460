"""Latency: the fit is monotone and finds a table that made the samples; a measurement is kept and used again."""

from __future__ import annotations

import json
from dataclasses import replace
from random import Random

import pytest
import torch
from hypothesis import given, settings, strategies as st

from slimformer import SuperNet, testing
from slimformer.backbones import backbone_for
from slimformer.costs import COSTS, Workload
from slimformer.errors import WorkloadError
from slimformer_counters.latency import Latency
from slimformer_counters.latency_table import Sample, Table, fit, plan
from slimformer_counters.stopwatch import Stopwatch
from tests.conftest import build_tiny

WORKLOAD = Workload(batch_size=1, length=8)


def net() -> SuperNet:
    model = build_tiny("Bert")
    return SuperNet(model, backbone_for(model).topology(model)).eval()


NET = net()
LAYOUT = plan(NET)


def made_up(random: Random) -> Table:
    """A table of the layout with random increments."""
    curves = {}
    for family in LAYOUT.families:
        curve = [(family.knots[0], 0.0)]
        for knot in family.knots[1:]:
            curve.append((knot, curve[-1][1] + random.random()))
        curves |= dict.fromkeys(family.groups, tuple(curve))
    return Table(random.random(), {"encoder": (random.random(),) * 4}, curves)


def measured(table: Table, noise: Random | None = None) -> list[Sample]:
    specs = LAYOUT.specs(NET.topology, 1.0)
    return [Sample(spec, table(spec) * (noise.uniform(0.7, 1.3) if noise else 1.0), False) for spec in specs]


def test_blocks_of_a_shape_share_a_curve_and_others_do_not():
    assert [len(places) for places in LAYOUT.alike] == [4]
    assert [len(family.groups) for family in LAYOUT.families] == [4, 4]
    other = net()
    other.model.bert.encoder.layer[2].attention.self.is_causal = True
    assert sorted(map(len, plan(other).alike)) == [1, 3]


def test_the_fit_finds_the_table_that_made_the_samples():
    truth = made_up(Random(1))
    found = fit(NET.topology, LAYOUT, measured(truth))
    for spec in testing.random_specs(NET.topology, 20, torch.Generator().manual_seed(0)):
        assert found(spec) == pytest.approx(truth(spec), rel=1e-6)


@given(st.integers(0, 10_000))
@settings(deadline=None, max_examples=30)
def test_a_fit_to_noise_never_falls_when_units_or_blocks_are_added(seed):
    random = Random(seed)
    table, topology = fit(NET.topology, LAYOUT, measured(made_up(random), random)), NET.topology
    small = {g.name: random.randint(1, g.num_units) for g in topology.groups}
    large = {g.name: random.randint(small[g.name], g.num_units) for g in topology.groups}
    few = random.sample(range(4), random.randint(1, 4))
    assert 0 <= table(topology.spec(small, {"encoder": few})) <= table(topology.spec(large, {}))


def test_samples_of_fewer_blocks_price_the_whole_model_too():
    truth = made_up(Random(2))
    specs = LAYOUT.specs(NET.topology, 0.5)
    assert all(len(spec.blocks["encoder"]) <= 2 for spec in specs)
    found = fit(NET.topology, LAYOUT, [Sample(spec, truth(spec), False) for spec in specs])
    assert found(NET.topology.full) == pytest.approx(truth(NET.topology.full), rel=1e-6)


@pytest.fixture
def times(monkeypatch):
    """A stopwatch that reads a made-up table instead of a clock; how often it was started."""
    table, started = made_up(Random(3)), []
    monkeypatch.setattr(Stopwatch, "affordable", lambda *_: 1.0)
    monkeypatch.setattr(Stopwatch, "fastest", lambda _, specs, seconds: started.append(1) or {s: table(s) for s in specs})
    return started


def test_a_measurement_is_kept_for_its_machine_and_setting(tmp_path, times):
    latency = Latency(folder=str(tmp_path))
    first = latency.price(NET, backbone_for(NET.model), WORKLOAD)
    again = latency.price(net(), backbone_for(NET.model), WORKLOAD)
    assert (len(times), again) == (1, first)
    for other in (replace(latency, threads=7), replace(latency, clock="cpu"), replace(latency, dtype="bfloat16")):
        other.price(NET, backbone_for(NET.model), WORKLOAD)
    latency.price(NET, backbone_for(NET.model), replace(WORKLOAD, length=9))
    assert len(times) == 5
    kept = [json.loads(file.read_text()) for file in tmp_path.iterdir()]
    assert len(kept) == 5
    assert all(table["machine"]["processor"] and table["error"] < 0.3 for table in kept)


def test_a_damaged_measurement_is_made_again(tmp_path, times):
    latency = Latency(folder=str(tmp_path))
    latency.price(NET, backbone_for(NET.model), WORKLOAD)
    next(tmp_path.iterdir()).write_text("{")
    latency.price(NET, backbone_for(NET.model), WORKLOAD)
    assert len(times) == 2


def test_a_real_measurement_is_above_zero_and_restores_the_threads():
    threads = torch.get_num_threads()
    price = COSTS.build({"name": "latency", "seconds": 0.01, "threads": 2}).price(NET, backbone_for(NET.model), WORKLOAD)
    assert torch.get_num_threads() == threads
    assert price(NET.topology.full) > 0


def test_a_device_that_is_not_there_is_one_clear_line():
    with pytest.raises(WorkloadError, match=r"latency.device=nowhere: .*write cpu"):
        Latency(device="nowhere").price(NET, backbone_for(NET.model), WORKLOAD)


def test_what_is_timed_tells_every_curve_apart():
    """Were one of its columns a mixture of others, another table would explain the samples as well."""
    import numpy as np

    from slimformer_counters.latency_table import _row

    rows = np.array([_row(LAYOUT, spec) for spec in LAYOUT.specs(NET.topology, 1.0)])
    assert np.linalg.matrix_rank(rows) == rows.shape[1]
