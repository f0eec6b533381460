"""Each loss term against an independent formula, and the laws of terms."""

import pytest
import torch
from torch import nn

from slimformer.axes import DEPTH_POLICIES
from slimformer.distillation import TERMS, EmbeddingMSE, HiddenMSE, Labels, SoftCrossEntropy, cross_entropy as softened
from slimformer.distillation.hidden import targets
from slimformer.supernet import HiddenStates, Outputs


def outputs(seed: int, batch: int = 6, tokens: int = 5, classes: int = 3, blocks: tuple[int, ...] = (0, 1)) -> Outputs:
    draw = torch.Generator().manual_seed(seed)
    states = [torch.randn(batch, tokens, 4, generator=draw) for _ in range(len(blocks) + 1)]
    logits = torch.randn(batch, classes, generator=draw)
    return Outputs((logits,), torch.tensor(0.7), {"encoder": HiddenStates(states[0], blocks, tuple(states[1:]))})


def part(whole: Outputs, rows: slice, tokens: int) -> Outputs:
    states = whole.hidden["encoder"]
    cut = HiddenStates(states.embeddings[rows, :tokens], states.blocks, tuple(s[rows, :tokens] for s in states.states))
    return Outputs(tuple(head[rows] for head in whole.logits), whole.loss, {"encoder": cut})


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_soft_cross_entropy_is_the_divergence_plus_the_teachers_entropy(temperature):
    student, teacher = outputs(0), outputs(1)
    log_student = (student.logits[0] / temperature).log_softmax(-1)
    target = (teacher.logits[0] / temperature).softmax(-1)
    divergence = nn.KLDivLoss(reduction="batchmean")(log_student, target)
    entropy = -(target * target.log()).sum(-1).mean()
    expected = temperature**2 * (divergence + entropy)
    torch.testing.assert_close(SoftCrossEntropy(temperature=temperature)(student, teacher, {}), expected)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_soft_cross_entropy_of_a_large_vocabulary_has_the_values_and_gradients_of_the_formula(dtype, monkeypatch):
    monkeypatch.setattr(softened, "CHUNK", 3 * 11 + 5)  # three predictions at a time, of ten
    student, teacher = torch.randn(2, 5, 11, dtype=dtype, requires_grad=True), torch.randn(2, 5, 11, dtype=dtype)
    wide = student.detach().double().requires_grad_()
    expected = -((teacher.double() / 2).softmax(-1) * (wide / 2).log_softmax(-1)).sum(-1)
    found = softened.soft_cross_entropies(student, teacher, 2.0)
    weights = torch.randn(2, 5, dtype=torch.float64)
    (found * weights).sum().backward()
    (expected * weights).sum().backward()
    exact = dtype == torch.float64
    torch.testing.assert_close(found.double(), expected, rtol=1e-12 if exact else 1e-6, atol=0)
    torch.testing.assert_close(student.grad.double(), wide.grad, rtol=1e-12 if exact else 1e-2, atol=1e-14 if exact else 1e-4)


def test_soft_cross_entropy_sums_over_heads():
    one, other = outputs(0), outputs(1)
    twice = [Outputs((o.logits[0], o.logits[0]), o.loss, {}) for o in (one, other)]
    torch.testing.assert_close(SoftCrossEntropy()(*twice, {}), 2 * SoftCrossEntropy()(one, other, {}))


def test_a_regressions_logits_get_the_mean_square_error_or_nothing():
    student, teacher = outputs(0, classes=1), outputs(1, classes=1)
    expected = nn.MSELoss()(student.logits[0], teacher.logits[0])
    torch.testing.assert_close(SoftCrossEntropy()(student, teacher, {}), expected)
    assert SoftCrossEntropy(regression="none")(student, teacher, {}) == 0


def test_hidden_error_with_padding_is_that_of_torch_summed_over_blocks():
    student, teacher = outputs(0), outputs(1)
    pairs = zip(student.hidden["encoder"].states, teacher.hidden["encoder"].states, strict=True)
    expected = sum(nn.MSELoss()(s, t) for s, t in pairs)
    mask = torch.tensor([[1, 1, 0, 0, 0]] * 6)
    torch.testing.assert_close(HiddenMSE(padding="include")(student, teacher, {"attention_mask": mask}), expected)


def test_hidden_error_without_padding_is_a_mean_over_each_examples_own_tokens():
    student, teacher = outputs(0), outputs(1)
    lengths = [5, 3, 1, 2, 4, 5]
    mask = torch.tensor([[1] * n + [0] * (5 - n) for n in lengths])
    expected = torch.zeros(())
    for s, t in zip(student.hidden["encoder"].states, teacher.hidden["encoder"].states, strict=True):
        expected += torch.stack([nn.MSELoss()(s[i, :n], t[i, :n]) for i, n in enumerate(lengths)]).mean()
    torch.testing.assert_close(HiddenMSE()(student, teacher, {"attention_mask": mask}), expected)


def test_embedding_error_reads_what_enters_the_first_block():
    student, teacher = outputs(0), outputs(1)
    expected = nn.MSELoss()(student.hidden["encoder"].embeddings, teacher.hidden["encoder"].embeddings)
    torch.testing.assert_close(EmbeddingMSE()(student, teacher, {}), expected)


def test_embedding_error_leaves_padding_out_unless_told():
    student, teacher = outputs(0), outputs(1)
    mask = torch.tensor([[1, 1, 0, 0, 0]] * 6)
    one, other = student.hidden["encoder"].embeddings, teacher.hidden["encoder"].embeddings
    found = EmbeddingMSE()(student, teacher, {"attention_mask": mask})
    torch.testing.assert_close(found, nn.MSELoss()(one[:, :2], other[:, :2]))
    found = EmbeddingMSE(padding="include")(student, teacher, {"attention_mask": mask})
    torch.testing.assert_close(found, nn.MSELoss()(one, other))


@pytest.mark.parametrize("term", [HiddenMSE(), EmbeddingMSE()], ids=TERMS.name_of)
def test_the_stacks_of_a_model_add_up(term):
    seeds = {"encoder": (0, 1), "decoder": (2, 3)}
    parts = {name: [outputs(seed).hidden["encoder"] for seed in pair] for name, pair in seeds.items()}
    both = [Outputs((), torch.zeros(()), {name: pair[i] for name, pair in parts.items()}) for i in (0, 1)]
    alone = [term(outputs(one), outputs(other), {}) for one, other in seeds.values()]
    torch.testing.assert_close(term(*both, {}), sum(alone))


def test_a_teacher_without_the_wanted_block_offers_the_last_one_before_it():
    zero = torch.zeros(1, 1, 1)
    student = HiddenStates(zero, (0, 3, 5), (zero,) * 3)
    teacher = HiddenStates(zero, (0, 2, 5), (zero,) * 3)
    assert targets(student, teacher, "output") == [0, 1, 2]


def test_the_labels_term_is_the_models_own_loss():
    assert Labels()(outputs(0), outputs(1), {}) == 0.7


@pytest.mark.parametrize("term", [SoftCrossEntropy(temperature=2.0), HiddenMSE(), EmbeddingMSE()], ids=TERMS.name_of)
def test_the_mean_over_equal_parts_of_a_batch_is_the_value_on_the_whole(term):
    student, teacher = outputs(0), outputs(1)
    mask = torch.tensor([[1, 1, 1, 0, 0]] * 3 + [[1, 1, 1, 1, 1]] * 3)
    whole = term(student, teacher, {"attention_mask": mask})
    short = term(part(student, slice(0, 3), 3), part(teacher, slice(0, 3), 3), {"attention_mask": mask[:3, :3]})
    long = term(part(student, slice(3, 6), 5), part(teacher, slice(3, 6), 5), {"attention_mask": mask[3:]})
    torch.testing.assert_close((short + long) / 2, whole)


@pytest.mark.parametrize("term", [SoftCrossEntropy(), HiddenMSE(), EmbeddingMSE()], ids=TERMS.name_of)
def test_a_student_that_agrees_with_its_teacher_gets_no_gradient(term):
    teacher = outputs(0)
    states = teacher.hidden["encoder"]
    leaves = [t.clone().requires_grad_() for t in (teacher.logits[0], states.embeddings, *states.states)]
    student = Outputs((leaves[0],), teacher.loss, {"encoder": HiddenStates(leaves[1], states.blocks, tuple(leaves[2:]))})
    term(student, teacher, {}).backward()
    assert any(leaf.grad is not None for leaf in leaves)
    for leaf in leaves:
        assert leaf.grad is None or leaf.grad.abs().max() < 1e-7


@pytest.mark.parametrize(
    ("policy", "layer_map", "ratio", "expected"),
    [
        ("keep_last", "output", 0.75, [1, 2, 4, 5, 6, 8, 9, 10, 12]),
        ("keep_last", "output", 0.5, [2, 4, 6, 8, 10, 12]),
        ("reference", "input", 0.75, [1, 2, 4, 5, 6, 8, 9, 10, 12]),
        ("reference", "input", 0.5, [2, 4, 6, 8, 10, 12]),
        ("keep_last", "input", 0.5, [3, 5, 7, 9, 11, 12]),
        ("keep_last", "input", 0.75, [1, 3, 4, 5, 7, 8, 9, 11, 12]),
    ],
)
def test_students_learn_the_teacher_states_of_the_paper_and_of_the_code(policy, layer_map, ratio, expected):
    kept = DEPTH_POLICIES.build(policy)(12, ratio)
    zero = torch.zeros(1, 1, 1)
    student = HiddenStates(zero, kept, (zero,) * len(kept))
    teacher = HiddenStates(zero, tuple(range(12)), (zero,) * 12)
    assert [state + 1 for state in targets(student, teacher, layer_map)] == expected  # state 0 is the embeddings


def outputs_of(*logits):
    return Outputs(logits, torch.zeros(()), {})


def test_a_choice_among_tokens_leaves_padding_out():
    mask = torch.tensor([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]])
    student, teacher = torch.randn(2, 5, requires_grad=True), torch.randn(2, 5)
    term = SoftCrossEntropy(over="tokens")
    loss = term(outputs_of(student), outputs_of(teacher), {"attention_mask": mask})
    rows = [
        -(teacher[i, :size].softmax(-1) * student[i, :size].log_softmax(-1)).sum()
        for i, size in enumerate(mask.sum(1).tolist())
    ]
    torch.testing.assert_close(loss, torch.stack(rows).mean())
    loss.backward()
    assert not student.grad[0, 3:].any()


def test_logits_of_each_token_count_where_the_token_is_judged():
    mask = torch.tensor([[1, 1, 1, 0], [1, 1, 1, 1]])
    labels = torch.tensor([[-100, 0, 1, -100], [2, 2, -100, -100]])
    student, teacher = torch.randn(2, 4, 3, requires_grad=True), torch.randn(2, 4, 3)
    each = -(teacher.softmax(-1) * student.log_softmax(-1)).sum(-1)
    found = SoftCrossEntropy()(outputs_of(student), outputs_of(teacher), {"attention_mask": mask, "labels": labels})
    torch.testing.assert_close(found, (each[0, 1:3].mean() + each[1, :2].mean()) / 2)
    unlabelled = SoftCrossEntropy()(outputs_of(student), outputs_of(teacher), {"attention_mask": mask})
    torch.testing.assert_close(unlabelled, (each[0, :3].mean() + each[1].mean()) / 2)


def test_the_decoders_logits_and_states_go_by_the_decoders_own_tokens() -> None:
    """Source and target are equally long, and the source's padding stands elsewhere."""
    source, labels = torch.tensor([[1, 1, 0, 0]]), torch.tensor([[5, 6, 7, -100]])
    own = torch.tensor([[1, 1, 1, 0]])
    g = torch.Generator().manual_seed(0)
    states = {n: HiddenStates(torch.randn(1, 4, 8, generator=g), (0,), (torch.randn(1, 4, 8, generator=g),)) for n in "abcd"}
    logits = [(torch.randn(1, 4, 3, generator=g),) for _ in range(2)]
    zero = torch.zeros(())
    student = Outputs(logits[0], zero, {"encoder": states["a"], "decoder": states["b"]}, from_decoder=True)
    teacher = Outputs(logits[1], zero, {"encoder": states["c"], "decoder": states["d"]}, from_decoder=True)

    def square(one: HiddenStates, other: HiddenStates, count: int) -> torch.Tensor:
        return (one.states[0] - other.states[0])[:, :count].square().mean()

    entropy = -(logits[1][0].softmax(-1) * logits[0][0].log_softmax(-1)).sum(-1)[:, :3].mean()
    hidden = square(states["a"], states["c"], 2) + square(states["b"], states["d"], 3)
    for target in ({"labels": labels}, {"decoder_attention_mask": own}):
        batch = {"attention_mask": source, **target}
        torch.testing.assert_close(SoftCrossEntropy()(student, teacher, batch), entropy)
        torch.testing.assert_close(HiddenMSE()(student, teacher, batch), hidden)
