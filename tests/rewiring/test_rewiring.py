"""Rewirings: their algebra, what they leave alone, how they are stored, and the passes that propose them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings, strategies as st

from slimformer import SuperNet, Topology
from slimformer.errors import TopologyError
from slimformer.importance import RandomScores
from slimformer.rewiring import PASSES, Keep, Rewiring, Shuffle, Sort
from slimformer.supernet import Slice, UnitGroup

SMALL = Topology(tuple(UnitGroup(name, "width", n, (Slice(f"{name}.w", 0),)) for name, n in (("a", 5), ("b", 1), ("c", 8))), ())


def rewirings(topology: Topology) -> st.SearchStrategy[Rewiring]:
    orders = {group.name: st.permutations(range(group.num_units)) for group in topology.groups}
    return st.fixed_dictionaries(orders).map(lambda chosen: Rewiring.of(topology, chosen))


def weights(supernet: SuperNet) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in supernet.named_parameters()}


@given(rewirings(SMALL))
def test_a_rewiring_then_its_inverse_is_the_identity(rewiring) -> None:
    assert rewiring.then(rewiring.inverse()).is_identity
    assert rewiring.inverse().then(rewiring).is_identity
    assert rewiring.inverse().inverse() == rewiring


@given(rewirings(SMALL), rewirings(SMALL), rewirings(SMALL))
def test_composition_is_associative_and_has_the_identity(r, s, t) -> None:
    assert r.then(s).then(t) == r.then(s.then(t))
    assert r.then(Rewiring.identity(SMALL)) == r == Rewiring.identity(SMALL).then(r)


@given(rewirings(SMALL), rewirings(SMALL))
def test_the_inverse_of_a_composition_is_the_inverses_in_reverse(r, s) -> None:
    assert r.then(s).inverse() == s.inverse().then(r.inverse())


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_applying_changes_weights_but_no_output_and_the_inverse_restores_every_bit(supernet, batch, data) -> None:
    rewiring = data.draw(rewirings(supernet.topology).filter(lambda drawn: not drawn.is_identity))
    before = weights(supernet)
    with torch.no_grad():
        wanted = supernet(**batch).logits
        rewiring.apply_(supernet)
        torch.testing.assert_close(supernet(**batch).logits, wanted, rtol=1e-4, atol=1e-4)
    assert any(not torch.equal(p, before[name]) for name, p in supernet.named_parameters())
    rewiring.inverse().apply_(supernet)
    assert all(torch.equal(p, before[name]) for name, p in supernet.named_parameters())


def test_the_unit_named_first_comes_first(supernet) -> None:
    query = supernet.model.bert.encoder.layer[0].attention.self.query
    before = query.weight.detach().clone()
    Rewiring.of(supernet.topology, {"encoder.0.heads": (2, 0, 1, 3)}).apply_(supernet)
    assert torch.equal(query.weight[:8], before[16:24])
    assert torch.equal(query.weight[8:24], before[:16])


def test_applying_twice_equals_applying_the_composition(supernet) -> None:
    first, second = Shuffle(0)(supernet.topology, {}), Shuffle(1)(supernet.topology, {})
    start = weights(supernet)
    first.apply_(supernet)
    second.apply_(supernet)
    stepwise = weights(supernet)
    supernet.load_state_dict(start)
    first.then(second).apply_(supernet)
    assert all(torch.equal(p, stepwise[name]) for name, p in supernet.named_parameters())


def test_live_sub_networks_follow_a_rewiring(supernet, space, batch) -> None:
    half = space.spec({"width": 0.5})
    live = supernet.subnet(half)
    with torch.no_grad():
        before = live(**batch).logits
        Shuffle(0)(supernet.topology, {}).apply_(supernet)
        after = live(**batch).logits
        assert not torch.allclose(after, before)
        torch.testing.assert_close(after, supernet.extract(half)(**batch).logits)


@pytest.mark.parametrize(
    ("orders", "message"),
    [
        ({"z": (0,)}, "orders group 'z', which the topology does not have"),
        ({"a": (0, 1, 2, 3)}, r"the order of group 'a' is not a permutation of 0\.\.4"),
        ({"a": (0, 1, 2, 3, 3)}, "'a' is not a permutation"),
        ({"b": (1,)}, r"'b' is not a permutation of 0\.\.0"),
    ],
)
def test_an_order_that_is_no_permutation_is_refused(orders, message) -> None:
    with pytest.raises(TopologyError, match=message):
        Rewiring.of(SMALL, orders)


def test_groups_not_given_stay_as_they_are() -> None:
    rewiring = Rewiring.of(SMALL, {"a": (4, 3, 2, 1, 0)})
    assert rewiring.orders["c"] == tuple(range(8))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rewiring=rewirings(SMALL))
def test_a_saved_rewiring_loads_equal(tmp_path: Path, rewiring) -> None:
    rewiring.save(tmp_path / "rewiring.json")
    assert Rewiring.load(tmp_path / "rewiring.json", SMALL) == rewiring


@pytest.mark.parametrize(
    "text", ["", "{", "[1, 2]", "3", '{"a": 3}', '{"a": ["x", 1]}', '{"z": [0]}', '{"a": [0, 0, 1, 2, 3]}']
)
def test_a_file_that_holds_no_rewiring_is_named(tmp_path: Path, text) -> None:
    path = tmp_path / "broken.json"
    path.write_text(text)
    with pytest.raises(TopologyError, match=r"broken.json does not hold a rewiring"):
        Rewiring.load(path, SMALL)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(TopologyError, match=r"absent.json does not hold a rewiring"):
        Rewiring.load(tmp_path / "absent.json", SMALL)


def test_sort_puts_the_most_important_unit_first() -> None:
    rewiring = Sort()(SMALL, {"a": torch.tensor([0.1, 5.0, 0.3, 4.0, 0.2])})
    assert rewiring.orders["a"] == (1, 3, 2, 4, 0)
    assert rewiring.orders["c"] == tuple(range(8))


def test_sort_keeps_the_order_of_equal_scores() -> None:
    assert Sort()(SMALL, {"a": torch.tensor([1.0, 2.0, 1.0, 2.0, 1.0])}).orders["a"] == (1, 3, 0, 2, 4)
    assert Sort()(SMALL, {group.name: torch.zeros(group.num_units) for group in SMALL.groups}).is_identity


def test_sort_reversed_puts_the_least_important_unit_first() -> None:
    assert Sort(reverse=True)(SMALL, {"a": torch.tensor([0.1, 5.0, 0.3, 4.0, 0.2])}).orders["a"] == (0, 4, 2, 3, 1)


def test_keep_is_the_identity() -> None:
    assert Keep()(SMALL, {"a": torch.tensor([3.0, 1.0, 2.0, 5.0, 4.0])}).is_identity


def test_shuffle_is_a_function_of_its_seed() -> None:
    assert Shuffle(7)(SMALL, {}) == Shuffle(7)(SMALL, {})
    assert Shuffle(7)(SMALL, {}) != Shuffle(8)(SMALL, {})


def test_a_pass_of_ten_lines_can_be_registered_and_used(supernet, monkeypatch) -> None:
    monkeypatch.setattr(PASSES, "_classes", dict(PASSES._classes))

    @PASSES.register("rotate")
    @dataclass(frozen=True)
    class Rotate:
        """Units moved by a few places."""

        by: int = 1

        def __call__(self, topology, scores):
            orders = {g.name: [(u + self.by) % g.num_units for u in range(g.num_units)] for g in topology.groups}
            return Rewiring.of(topology, orders)

    scores = RandomScores()(supernet, [])
    rewiring = PASSES.build({"name": "rotate", "by": 3})(supernet.topology, scores)
    assert rewiring.orders["encoder.0.heads"] == (3, 0, 1, 2)
    before = weights(supernet)
    rewiring.apply_(supernet)
    assert not torch.equal(before["model.bert.encoder.layer.0.output.dense.weight"],
                           supernet.model.bert.encoder.layer[0].output.dense.weight)  # fmt: skip
