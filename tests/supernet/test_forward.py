import torch
import transformers

from slimformer.backbones import backbone_for
from slimformer.supernet import SuperNet
from slimformer.supernet.forward import forward


def test_a_teacher_without_labels_reads_the_decoder_tokens_that_the_labels_stand_for() -> None:
    torch.manual_seed(0)
    sizes = {"d_model": 16, "d_kv": 4, "d_ff": 32, "num_layers": 2, "num_heads": 4, "vocab_size": 20}
    model = transformers.T5ForConditionalGeneration(transformers.T5Config(**sizes, decoder_start_token_id=0)).eval()
    supernet = SuperNet(model, backbone_for(model).topology(model))
    batch = {
        "input_ids": torch.tensor([[3, 4, 5, 1]]),
        "attention_mask": torch.ones(1, 4).long(),
        "labels": torch.tensor([[6, 7, 1, -100]]),
    }
    full = supernet.topology.full
    with torch.no_grad():
        student = forward(supernet.frozen(full), supernet.topology, full, batch, hidden=True, labels=True)
        teacher = forward(supernet.frozen(full), supernet.topology, full, batch, hidden=True, labels=False)
    torch.testing.assert_close(teacher.logits, student.logits, rtol=0, atol=0)
    assert student.from_decoder
    assert teacher.from_decoder
    assert float(student.loss) > 0 == float(teacher.loss)
