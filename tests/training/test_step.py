"""The elastic step against gradients computed by another route."""

import copy

import pytest
import torch

from slimformer import SuperNet
from slimformer.distillation import EmbeddingMSE, HiddenMSE, Labels, SoftCrossEntropy
from slimformer.rewiring import Shuffle
from slimformer.supernet.forward import forward
from slimformer.training import ElasticStep, follow_spec

DISTIL = [("logits", SoftCrossEntropy()), ("hidden", HiddenMSE(weight=0.1)), ("embeddings", EmbeddingMSE(weight=0.1))]


def teacher_of(supernet: SuperNet) -> SuperNet:
    teacher = SuperNet(copy.deepcopy(supernet.model), supernet.topology)
    with torch.no_grad():
        for parameter in teacher.model.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(3)))
    return teacher.requires_grad_(False).eval()


def independent_gradient(supernet, teacher, specs, batch, follow):
    """Gradients of the summed loss through extracted students, put back into full-size tensors by position."""
    total = {name: torch.zeros_like(p) for name, p in supernet.model.named_parameters()}
    for spec in specs:
        student = supernet.extract(spec)
        taught = teacher.extract(follow_spec(supernet.topology, spec, follow))
        inputs = {k: batch[k] for k in ("input_ids", "attention_mask")}
        out = student(**inputs, output_hidden_states=True)
        with torch.no_grad():
            target = taught(**inputs, output_hidden_states=True)
        loss = -(target.logits.softmax(-1) * out.logits.log_softmax(-1)).sum(-1).mean()
        wanted = [0, *(block + 1 for block in spec.blocks["encoder"])]
        mask = batch["attention_mask"].float()
        for state, index in zip(out.hidden_states, wanted, strict=True):
            square = (state - target.hidden_states[index]).square().mean(-1)
            loss = loss + 0.1 * ((square * mask).sum(1) / mask.sum(1)).mean()
        loss.backward()
        put_back_(total, student, spec)
    return total


def put_back_(total, student, spec):
    """Add an extracted student's gradients to full-size tensors, by name and position."""
    for name, parameter in student.named_parameters():
        parts = name.split(".")
        if "layer" in parts:
            parts[parts.index("layer") + 1] = str(spec.blocks["encoder"][int(parts[parts.index("layer") + 1])])
        region = tuple(slice(0, size) for size in parameter.shape)
        if parameter.grad is not None:
            total[".".join(parts)][region] += parameter.grad


def assert_gradients(supernet, expected):
    for name, parameter in supernet.model.named_parameters():
        torch.testing.assert_close(parameter.grad, expected[name], atol=1e-6, rtol=1e-5, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.parametrize("follow", [(), ("width",)], ids=["full teacher", "teacher of the width"])
@pytest.mark.parametrize("specs", ["every", "per_layer"])
def test_it_leaves_the_gradient_of_the_summed_loss(supernet, space, batch, specs, follow, generator):
    chosen = [p.spec for p in space.points()] if specs == "every" else [space.random_spec(generator) for _ in range(3)]
    teacher = teacher_of(supernet)
    supernet.allocate_gradients_()
    ElasticStep(supernet, DISTIL, teacher, follow)(batch, chosen, backward=lambda loss: loss.backward())
    assert_gradients(supernet, independent_gradient(supernet, teacher, chosen, batch, follow))


def test_the_teacher_runs_once_for_the_students_that_share_it(supernet, space, batch):
    teacher = teacher_of(supernet)
    ran = []
    widths = (1.0, 0.75, 0.5, 0.25)
    for width in widths:
        network = teacher.subnet(space.spec({"width": width}))
        network.register_forward_hook(lambda module, args, output, width=width: ran.append(width))
    specs = [p.spec for p in space.points()]
    supernet.allocate_gradients_()
    ElasticStep(supernet, DISTIL, teacher)(batch, specs, backward=lambda loss: loss.backward())
    assert ran == [1.0]
    ran.clear()
    ElasticStep(supernet, DISTIL, teacher, follow=("width",))(batch, specs, backward=lambda loss: loss.backward())
    assert ran == list(widths)


def test_a_teacher_that_no_term_reads_does_not_run(supernet, space, batch):
    teacher = teacher_of(supernet)
    ran = []
    teacher.subnet(supernet.topology.full).register_forward_hook(lambda module, args, output: ran.append(1))
    supernet.allocate_gradients_()
    step = ElasticStep(supernet, [("labels", Labels())], teacher)
    step(batch, [p.spec for p in space.points()], backward=lambda loss: loss.backward())
    assert not ran


def test_the_teacher_is_left_untouched(supernet, space, batch):
    teacher = teacher_of(supernet)
    before = copy.deepcopy(teacher.model.state_dict())
    supernet.allocate_gradients_()
    ElasticStep(supernet, DISTIL, teacher)(batch, [space.smallest().spec], backward=lambda loss: loss.backward())
    assert all(torch.equal(before[name], value) for name, value in teacher.model.state_dict().items())
    assert all(parameter.grad is None for parameter in teacher.parameters())


def test_the_terms_add_up_to_the_total_that_is_differentiated(supernet, space, batch):
    losses = []
    supernet.allocate_gradients_()
    step = ElasticStep(supernet, [*DISTIL, ("labels", Labels(weight=0.5))], teacher_of(supernet))
    found = step(batch, [p.spec for p in space.points()], backward=lambda loss: losses.append(loss.detach()))
    assert set(found.terms) == {"logits", "hidden", "embeddings", "labels"}
    torch.testing.assert_close(sum(found.terms.values()), found.total)
    torch.testing.assert_close(sum(losses), found.total)


def test_in_place_the_first_learns_from_labels_and_teaches_the_others(supernet, space, batch):
    specs = [space.largest().spec, space.smallest().spec]
    supernet.allocate_gradients_()
    step = ElasticStep(supernet, [("logits", SoftCrossEntropy())], supernet, in_place=True)
    found = step(batch, specs, backward=lambda loss: loss.backward())
    largest, smallest = supernet.extract(specs[0]), supernet.extract(specs[1])
    first = largest(**batch)
    target = first.logits.detach().softmax(-1)
    second = smallest(**{k: v for k, v in batch.items() if k != "labels"})
    expected = -(target * second.logits.log_softmax(-1)).sum(-1).mean()
    torch.testing.assert_close(found.terms["labels"], first.loss.detach())
    torch.testing.assert_close(found.terms["logits"], expected.detach())
    total = {name: torch.zeros_like(p) for name, p in supernet.model.named_parameters()}
    for student, spec, loss in ((largest, specs[0], first.loss), (smallest, specs[1], expected)):
        loss.backward()
        put_back_(total, student, spec)
    assert_gradients(supernet, total)


def test_a_teacher_that_follows_the_width_is_whole_in_depth(supernet, space):
    student = space.spec({"width": 0.25, "depth": 0.5})
    assert follow_spec(supernet.topology, student, ("width",)) == space.spec({"width": 0.25})
    assert follow_spec(supernet.topology, student, ("width", "depth")) == student
    assert follow_spec(supernet.topology, student, ()) == supernet.topology.full


def test_a_teacher_that_follows_one_part_of_the_width_is_whole_in_the_other(supernet, space):
    student = space.spec({"width": 0.25, "depth": 0.5})
    taught = follow_spec(supernet.topology, student, ("width.heads",))
    for group in supernet.topology.groups:
        assert taught.units[group.name] == (group.num_units // 4 if group.axis == "width.heads" else group.num_units)


def test_a_teacher_follows_each_layers_width_and_the_largest_where_the_student_has_no_such_layer(supernet):
    topology = supernet.topology
    heads = [group.name for group in topology.groups if group.axis == "width.heads"]
    student = topology.spec({heads[1]: 1, heads[3]: 3}, {"encoder": (1, 3)})
    taught = follow_spec(topology, student, ("width",))
    assert taught.blocks["encoder"] == (0, 1, 2, 3)
    assert [taught.units[name] for name in heads] == [3, 1, 3, 3]


def test_recorded_states_are_those_that_the_stock_model_reports(supernet, batch):
    inputs = {k: v for k, v in batch.items() if k != "labels"}
    stock = supernet.model(**inputs, output_hidden_states=True).hidden_states
    full = supernet.topology.full
    found = forward(supernet.subnet(full), supernet.topology, full, batch, hidden=True, labels=False).hidden["encoder"]
    for one, other in zip((found.embeddings, *found.states), stock, strict=True):
        assert torch.equal(one, other)


def test_no_hook_stays_behind_even_when_the_model_raises(supernet):
    full = supernet.topology.full
    network = supernet.subnet(full)
    with pytest.raises((ValueError, TypeError, AttributeError)):
        forward(network, supernet.topology, full, {"input_ids": None}, hidden=True, labels=False)
    assert not any(module._forward_hooks for module in network.modules())


def test_rewiring_student_and_teacher_alike_changes_no_full_size_loss(supernet, batch):
    teacher = teacher_of(supernet)
    full = [supernet.topology.full]
    step = ElasticStep(supernet, DISTIL, teacher)
    supernet.allocate_gradients_()
    before = step(batch, full, backward=lambda loss: None).total
    Shuffle(seed=1)(supernet.topology, {}).apply_(supernet)
    after = step(batch, full, backward=lambda loss: None).total
    torch.testing.assert_close(before, after, atol=1e-5, rtol=1e-5)
