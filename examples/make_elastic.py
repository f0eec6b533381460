"""Make a model elastic, run a sub-network of it, and extract one as an ordinary model.

The model has random weights, so that the script needs no network; `from_pretrained` takes the constructor's place.
"""

import torch
from transformers import BertConfig, BertForSequenceClassification

import slimformer as sf

config = BertConfig(hidden_size=48, num_attention_heads=12, num_hidden_layers=4, intermediate_size=192)
model = BertForSequenceClassification(config).eval()

supernet = sf.make_elastic(model)  # finds the backbone that describes the model
print("axes:", ", ".join(supernet.topology.axes))

space = sf.Space.of(supernet, width=[1, 0.75, 0.5], depth=[1, 0.5])
half = space.spec(width=0.5, depth=0.5)

live = supernet.subnet(half)  # views into the weights of `model`: no copy
small = supernet.extract(half)  # an ordinary BertForSequenceClassification that owns its weights

ids = torch.randint(5, 100, (2, 16))
assert torch.allclose(live.eval()(ids).logits, small.eval()(ids).logits, atol=1e-6)
for name, network in (("whole", model), ("half", small)):
    print(f"{name}: {sum(parameter.numel() for parameter in network.parameters()):,} parameters")

small.save_pretrained("small")
again = sf.from_pretrained("small").eval()
assert torch.allclose(again(ids).logits, small(ids).logits, atol=1e-6)
print("saved and loaded: the same outputs")
