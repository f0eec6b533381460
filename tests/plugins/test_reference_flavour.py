"""The reference recipe against a second implementation of the released DynaBERT code, in plain tensor functions.

Source: `run_glue.py` and `modeling_bert.py` of the DynaBERT release: slices taken inside autograd, masks on attention
probabilities, gradients that are never cleared while importance is summed.
"""

from __future__ import annotations

import copy
import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from slimformer import SuperNet
from slimformer.recipe import read_recipe
from slimformer.supernet import Outputs
from slimformer.training import ElasticStep

RECIPE = read_recipe(Path(__file__).parents[2] / "recipes" / "dynabert_glue_reference.toml")
HEADS, LAYERS, HIDDEN, NEURONS = 4, 4, 32, 64


def weights_of(model) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone().requires_grad_() for name, p in model.named_parameters()}


def dense(w, name, x, rows=None, columns=None):
    return F.linear(x, w[f"{name}.weight"][:rows, :columns], w[f"{name}.bias"][:rows])


def norm(w, name, x):
    return F.layer_norm(x, (HIDDEN,), w[f"{name}.weight"], w[f"{name}.bias"], 1e-12)


def released(w, batch, mw=1.0, md=1.0, head_mask=None):
    """(logits, hidden states, kept layers) of the released code's model at a width and a depth."""
    ids, mask = batch["input_ids"], (1.0 - batch["attention_mask"][:, None, None, :].float()) * -10000.0
    place = "bert.embeddings"
    x = F.embedding(ids, w[f"{place}.word_embeddings.weight"], padding_idx=0)
    x = x + w[f"{place}.position_embeddings.weight"][: ids.shape[1]]
    x = norm(w, f"{place}.LayerNorm", x + w[f"{place}.token_type_embeddings.weight"][0])
    heads = round(HEADS * mw)
    size, neurons = heads * HIDDEN // HEADS, int(heads / HEADS * NEURONS)
    kept = [math.floor(i / md) for i in range(round(md * LAYERS))]
    states = [x]
    for layer in kept:
        place = f"bert.encoder.layer.{layer}"
        q, k, v = (
            dense(w, f"{place}.attention.self.{part}", x, rows=size).unflatten(-1, (heads, -1)).transpose(1, 2)
            for part in ("query", "key", "value")
        )
        probabilities = (q @ k.transpose(-1, -2) / math.sqrt(HIDDEN / HEADS) + mask).softmax(-1)
        if head_mask is not None:
            probabilities = probabilities * head_mask[layer][:, None, None]
        context = (probabilities @ v).transpose(1, 2).flatten(2)
        x = norm(
            w, f"{place}.attention.output.LayerNorm", dense(w, f"{place}.attention.output.dense", context, columns=size) + x
        )
        middle = F.gelu(dense(w, f"{place}.intermediate.dense", x, rows=neurons))
        x = norm(w, f"{place}.output.LayerNorm", dense(w, f"{place}.output.dense", middle, columns=neurons) + x)
        states.append(x)
    return dense(w, "classifier", torch.tanh(dense(w, "bert.pooler.dense", x[:, 0]))), states, kept


def released_importance(w, batches):
    """Head and neuron importance as the released code sums it."""
    head_mask = torch.ones(LAYERS, HEADS, requires_grad=True)
    heads, neurons = torch.zeros(LAYERS, HEADS), torch.zeros(LAYERS, NEURONS)
    for batch in batches:
        F.cross_entropy(released(w, batch, head_mask=head_mask)[0], batch["labels"]).backward()  # and no zero_grad
        heads += head_mask.grad.abs()
        for layer in range(LAYERS):
            place = f"bert.encoder.layer.{layer}"
            w1, b1 = w[f"{place}.intermediate.dense.weight"], w[f"{place}.intermediate.dense.bias"]
            w2 = w[f"{place}.output.dense.weight"]
            neurons[layer] += ((w1 * w1.grad).sum(1) + b1 * b1.grad).abs().detach() + (w2 * w2.grad).sum(0).abs().detach()
    return heads, neurons


def released_rewiring(w, heads, neurons):
    """The weights with heads and neurons by descending importance."""
    new = {name: p.detach().clone() for name, p in w.items()}
    for layer in range(LAYERS):
        place = f"bert.encoder.layer.{layer}"
        head = heads[layer].argsort(descending=True)
        index = (head[:, None] * (HIDDEN // HEADS) + torch.arange(HIDDEN // HEADS)).flatten()
        neuron = neurons[layer].argsort(descending=True)
        for part in ("query", "key", "value"):
            for kind in ("weight", "bias"):
                new[f"{place}.attention.self.{part}.{kind}"] = new[f"{place}.attention.self.{part}.{kind}"][index]
        new[f"{place}.attention.output.dense.weight"] = new[f"{place}.attention.output.dense.weight"][:, index]
        for kind in ("weight", "bias"):
            new[f"{place}.intermediate.dense.{kind}"] = new[f"{place}.intermediate.dense.{kind}"][neuron]
        new[f"{place}.output.dense.weight"] = new[f"{place}.output.dense.weight"][:, neuron]
    return {name: p.requires_grad_() for name, p in new.items()}


def released_step(student, teacher, batch, grid, lambdas):
    """The summed loss of one batch; gradients are left in the student's weights."""
    with torch.no_grad():
        taught, teacher_states, _ = released(teacher, batch)
    total = torch.zeros(())
    for mw, md in grid:
        logits, states, kept = released(student, batch, mw, md)
        soft = -(taught.softmax(-1) * logits.log_softmax(-1)).sum(-1).mean()
        wanted = [teacher_states[index] for index in (*kept, LAYERS)]
        hidden = sum(F.mse_loss(state, target) for state, target in zip(states, wanted, strict=True))
        loss = lambdas[0] * soft + lambdas[1] * hidden
        loss.backward()
        total += loss.detach()
    return total


STAGES = {
    "width": ([(mw, 1.0) for mw in (1.0, 0.75, 0.5, 0.25)], (1.0, 0.1)),
    "depth": ([(mw, md) for md in (1.0, 0.75, 0.5) for mw in (1.0, 0.75, 0.5, 0.25)], (1.0, 1.0)),
}


@pytest.fixture
def rewired(supernet, batches):
    """(our rewired super-network, the second implementation's rewired weights, its weights before)."""
    before = weights_of(supernet.model)
    after = released_rewiring(before, *released_importance(before, batches))
    RECIPE.rewiring(supernet.topology, RECIPE.importance.scorer(supernet, batches)).apply_(supernet)
    return supernet, after, before


def test_importance_and_rewiring_are_those_of_the_released_code(rewired):
    supernet, after, before = rewired
    for name, parameter in supernet.model.named_parameters():
        torch.testing.assert_close(parameter.detach(), after[name].detach(), rtol=0, atol=0, msg=name)
    name = "bert.encoder.layer.0.intermediate.dense.weight"
    assert not torch.equal(after[name], before[name])


@pytest.mark.parametrize("stage", ["width", "depth"])
def test_a_step_leaves_the_loss_and_the_gradients_of_the_released_code(stage, rewired, batches, generator):
    supernet, after, before = rewired
    table = next(s for s in RECIPE.stage if s.name == stage)
    grid, lambdas = STAGES[stage]
    teacher = SuperNet(copy.deepcopy(supernet.model), supernet.topology).requires_grad_(False).eval()
    taught = before  # stage one: not rewired, which computes the same
    if stage == "depth":  # stage two: what stage one left, here some other weights
        for name, parameter in teacher.model.named_parameters():
            parameter.mul_(0.9)
            taught[name] = parameter
    wanted = released_step(after, taught, batches[0], grid, lambdas)

    space = RECIPE.space.to_space(supernet.topology).restrict(table.axes)
    supernet.allocate_gradients_()
    step = ElasticStep(supernet, [(str(i), term) for i, term in enumerate(table.terms)], teacher, table.follow)
    found = step(batches[0], table.sampler(space, generator), backward=lambda loss: loss.backward())

    torch.testing.assert_close(found.total, wanted, rtol=1e-5, atol=1e-5)
    for name, parameter in supernet.model.named_parameters():
        expected = after[name].grad if after[name].grad is not None else torch.zeros_like(after[name])
        torch.testing.assert_close(parameter.grad, expected, rtol=1e-5, atol=1e-5, msg=lambda m, n=name: f"{n}: {m}")


def test_the_order_of_the_sub_networks_is_that_of_the_released_code(supernet, generator):
    space = RECIPE.space.to_space(supernet.topology)
    specs = [space.spec({"width": mw, "depth": md}) for mw, md in STAGES["depth"][0]]
    assert list(RECIPE.stage[1].sampler(space, generator)) == specs


def test_the_optimizer_is_that_of_the_released_code():
    for stage in RECIPE.stage:
        training = stage.training
        assert (training.learning_rate, training.warmup, training.schedule) == (2e-5, 0.0, "linear")
        assert (training.weight_decay, training.max_grad_norm, training.epochs) == (0.0, 1.0, 3.0)


def test_a_regression_learns_no_logits():
    term = RECIPE.stage[0].terms[0]
    student = Outputs((torch.ones(3, 1, requires_grad=True),), torch.zeros(()), {})
    loss = term(student, Outputs((torch.zeros(3, 1),), torch.zeros(()), {}), {})
    loss.backward()
    assert loss == 0
    assert not student.logits[0].grad.any()
