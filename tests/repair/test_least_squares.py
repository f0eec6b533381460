"""The closed-form repair: identities that hold exactly, on tiny models with norms behind (BERT) and before (Llama) each half."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from transformers import BertConfig, BertModel, LlamaConfig, LlamaForCausalLM

from slimformer import SubnetSpec, SuperNet
from slimformer.backbones import backbone_for
from slimformer.errors import RepairError
from slimformer.repair import REPAIRS, Bias, LeastSquares, NoRepair, Scale, record_streams
from slimformer.supernet import Batch

BLOCKS, HIDDEN, NEURONS = 3, 32, 24


def bert() -> nn.Module:
    config = BertConfig(
        vocab_size=60, hidden_size=HIDDEN, num_attention_heads=4, intermediate_size=NEURONS, num_hidden_layers=BLOCKS,
        max_position_embeddings=40, initializer_range=0.3,
    )  # fmt: skip
    return _random(lambda: BertModel(config, add_pooling_layer=False))


def llama() -> nn.Module:
    config = LlamaConfig(
        vocab_size=60, hidden_size=HIDDEN, num_attention_heads=4, num_key_value_heads=2, intermediate_size=NEURONS,
        num_hidden_layers=BLOCKS, max_position_embeddings=40, initializer_range=0.3,
    )  # fmt: skip
    return _random(lambda: LlamaForCausalLM(config))


def _random(make: Callable[[], nn.Module]) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = make()
        for parameter in model.parameters():
            parameter.data += 0.1 * torch.randn_like(parameter)
    return model.eval()


def supernet_of(model: nn.Module) -> SuperNet:
    return SuperNet(model, backbone_for(model).topology(model))


def some_batches(count: int = 6, seed: int = 0) -> list[Batch]:
    generator = torch.Generator().manual_seed(seed)
    batches = []
    for _ in range(count):
        ids = torch.randint(2, 60, (4, 10), generator=generator)
        mask = torch.ones_like(ids)
        ids[-1, 6:], mask[-1, 6:] = 0, 0
        batches.append({"input_ids": ids, "attention_mask": mask})
    return batches


def stack_of(supernet: SuperNet) -> str:
    return supernet.topology.stacks[0].name


def half(supernet: SuperNet) -> SubnetSpec:
    """Half of the units, the block in the middle dropped."""
    units = {group.name: group.at(0.5) for group in supernet.topology.groups}
    return supernet.topology.spec(units, {stack_of(supernet): (0, BLOCKS - 1)})


def output(model: nn.Module, batch: Batch) -> Tensor:
    """The stream behind the last block, at real tokens."""
    with torch.no_grad():
        states = model(**batch, output_hidden_states=True).hidden_states[-1]
    return states[batch["attention_mask"].bool()]


def error(model: nn.Module, whole: nn.Module, batches: list[Batch]) -> float:
    return float(sum((output(model, batch) - output(whole, batch)).square().sum() for batch in batches))


@pytest.fixture(params=[bert, llama], ids=["post-norm", "pre-norm"])
def model(request: pytest.FixtureRequest) -> nn.Module:
    return request.param()


@pytest.mark.parametrize("repair", [LeastSquares(min_tokens=0), Bias(), Scale(), NoRepair()], ids=lambda r: type(r).__name__)
def test_the_full_size_keeps_its_weights_bit_for_bit_and_the_super_network_is_left_alone(model, repair):
    supernet = supernet_of(model)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    repaired = repair(supernet, supernet.topology.full, some_batches())
    repair(supernet, half(supernet), some_batches())
    for name, tensor in repaired.state_dict().items():
        assert torch.equal(tensor, before[name]), name
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_a_repaired_sub_network_is_nearer_to_the_whole_model_on_other_texts(model):
    supernet, batches, others = supernet_of(model), some_batches(12), some_batches(4, seed=1)
    spec = half(supernet)
    teacher = record_streams(supernet, batches)
    cut = error(supernet.extract(spec).eval(), model, others)
    repaired = error(LeastSquares()(supernet, spec, batches, teacher), model, others)
    assert repaired < 0.9 * cut
    assert error(LeastSquares(rank=2)(supernet, spec, batches, teacher), model, others) > repaired


def test_a_large_ridge_moves_the_bias_alone(model):
    supernet, spec = supernet_of(model), half(supernet_of(model))
    cut, repaired = supernet.extract(spec), LeastSquares(ridge=1e12)(supernet, spec, some_batches())
    for (name, old), (_, new) in zip(cut.named_parameters(), repaired.named_parameters(), strict=True):
        if not name.endswith("bias"):
            torch.testing.assert_close(new, old, rtol=0, atol=1e-5, msg=name)


def test_a_neuron_that_is_there_twice_may_go_without_a_trace(model):
    supernet = supernet_of(model)
    with torch.no_grad():
        for group in (group for group in supernet.topology.groups if group.axis == "width.ffn"):
            for part in group.slices:
                units = supernet.units(group, part)
                units[NEURONS // 2 :] = units[: NEURONS // 2]  # the second half repeats the first
    units = {group.name: NEURONS // 2 for group in supernet.topology.groups if group.axis == "width.ffn"}
    spec, batches = supernet.topology.spec(units, {}), some_batches(12)
    assert error(supernet.extract(spec).eval(), model, batches) > 1
    repaired = LeastSquares(ridge=1e-9)(supernet, spec, batches)
    for batch in batches:
        torch.testing.assert_close(output(repaired, batch), output(model, batch), rtol=1e-3, atol=1e-3)


def test_a_dropped_block_that_is_the_identity_leaves_the_others_as_they_are(model):
    supernet = supernet_of(model)
    stack = supernet.topology.stacks[0]
    with torch.no_grad():
        for group in (g for g in supernet.topology.groups if supernet.topology.block_of(g) == 1):
            for part in (part for part in group.slices if part.reads):
                supernet.units(group, part).zero_()
                bias = getattr(model.get_submodule(part.module), "bias", None)
                if bias is not None:
                    bias.zero_()
        for name, norm in model.get_submodule(stack.path).named_modules():
            if isinstance(norm, nn.LayerNorm) and name.startswith(("0.output", "1.")):  # a norm of what is normalised
                norm.weight.fill_(1.0)
                norm.bias.zero_()
    spec = supernet.topology.spec({}, {stack.name: (0, 2)})
    cut, repaired = supernet.extract(spec), LeastSquares()(supernet, spec, some_batches(12))
    for (name, old), (_, new) in zip(cut.named_parameters(), repaired.named_parameters(), strict=True):
        torch.testing.assert_close(new, old, rtol=0, atol=2e-4, msg=name)


def test_a_dropped_block_that_is_linear_is_absorbed_by_the_one_before_it():
    model = llama()
    supernet = supernet_of(model)
    stack = supernet.topology.stacks[0]
    with torch.no_grad():
        first, second = model.model.layers[0].mlp, model.model.layers[1]
        second.self_attn.o_proj.weight.zero_()
        second.mlp.down_proj.weight.zero_()
        extra = 0.1 * torch.randn(HIDDEN, NEURONS, generator=torch.Generator().manual_seed(3))
        wanted = first.down_proj.weight + extra

        def add(module, args, output):  # block 1 adds `extra` times what the neurons of block 0 were
            stream = output[0] if isinstance(output, tuple) else output
            return stream + add.neurons @ extra.T

        def remember(module, args):
            add.neurons = args[0]

        hooks = [first.down_proj.register_forward_pre_hook(remember), second.register_forward_hook(add)]
    batches = some_batches(40)
    streams = record_streams(supernet, batches)
    for hook in hooks:
        hook.remove()
    spec = supernet.topology.spec({}, {stack.name: (0, 2)})
    repaired = LeastSquares(ridge=1e-9)(supernet, spec, batches, streams)
    torch.testing.assert_close(repaired.model.layers[0].mlp.down_proj.weight, wanted, rtol=0, atol=2e-3)


def test_padding_and_the_order_of_the_texts_change_nothing(model):
    supernet, spec, batches = supernet_of(model), half(supernet_of(model)), some_batches()
    wanted = LeastSquares(min_tokens=0)(supernet, spec, batches)
    padded = [
        {name: torch.cat([tensor, torch.zeros(4, 3, dtype=tensor.dtype)], 1) for name, tensor in batch.items()}
        for batch in reversed(batches)
    ]
    found = LeastSquares(min_tokens=0)(supernet, spec, padded)
    for (name, one), (_, other) in zip(wanted.named_parameters(), found.named_parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-3, msg=name)


def test_a_repaired_sub_network_is_saved_and_loaded_as_the_same_function(model, tmp_path):
    from slimformer import from_pretrained

    supernet, batches = supernet_of(model), some_batches()
    repaired = LeastSquares(min_tokens=0)(supernet, half(supernet), batches)
    repaired.save_pretrained(tmp_path)  # type: ignore[operator]
    assert torch.equal(output(from_pretrained(tmp_path), batches[0]), output(repaired, batches[0]))


@pytest.mark.parametrize(
    ("repair", "batches", "said"),
    [
        (LeastSquares(), [], "no calibration batches"),
        (LeastSquares(min_tokens=1000), some_batches(), "real tokens"),
        (LeastSquares(rank=1000), some_batches(), "rank = 1000 is above"),
    ],
)
def test_what_cannot_be_repaired_is_one_clear_line(model, repair, batches, said):
    supernet = supernet_of(model)
    with pytest.raises(RepairError, match=said):
        repair(supernet, half(supernet), batches)


def test_activations_that_are_not_finite_are_named(model):
    supernet = supernet_of(model)
    with torch.no_grad():
        model.get_input_embeddings().weight[5] = torch.nan  # type: ignore[operator]
    with pytest.raises(RepairError, match="not finite"):
        LeastSquares(min_tokens=0)(supernet, half(supernet), some_batches())


def test_every_repair_is_registered():
    assert REPAIRS.names() == ("bias", "least_squares", "none", "scale")
