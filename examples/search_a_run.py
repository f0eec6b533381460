"""Train a super-network on a small task, search it under a limit, and export the winner.

The task: does a sentence contain the word "good"? The checkpoint is a tiny BERT with random weights, so that the script needs no
network and takes seconds; `slimformer run recipes/quickstart.toml` does the same with a real model.
"""

import csv
import random
import subprocess
import sys
from pathlib import Path

import slimformer as sf

WORDS = ["a", "bad", "cat", "dog", "good", "film", "is", "the"]

RECIPE = """
name = "tiny"
[model]
checkpoint = "checkpoint"
[task]
name = "text_files"
train = "train.csv"
validation = "dev.csv"
[space]
width = [1.0, 0.5, 0.25]
depth = [1.0, 0.5]
[finetune]
epochs = 4
learning_rate = 3e-3
[schedule]
name = "one_stage"
training = { epochs = 1, learning_rate = 1e-3 }
[machine]
batch_size = 16
"""


def write_checkpoint(folder):
    """A two-class BERT with random weights, and a tokenizer of whole words."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

    vocabulary = {word: index for index, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS])}
    words = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    words.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    PreTrainedTokenizerFast(tokenizer_object=words, **names).save_pretrained(folder)
    sizes = {
        "hidden_size": 32,
        "num_attention_heads": 4,
        "num_hidden_layers": 2,
        "intermediate_size": 64,
        "initializer_range": 0.3,
    }
    BertForSequenceClassification(BertConfig(vocab_size=len(vocabulary), **sizes)).save_pretrained(folder)


def write_table(path, size, seed):
    """Sentences of three to six words, labelled by whether "good" is among them."""
    draw = random.Random(seed)
    with path.open("w", newline="") as stream:
        rows = csv.writer(stream)
        rows.writerow(["text", "label"])
        for _ in range(size):
            sentence = draw.choices(WORDS, k=draw.randint(3, 6))
            rows.writerow([" ".join(sentence), "yes" if "good" in sentence else "no"])


def main():
    """Run, search, evaluate, export."""
    write_checkpoint("checkpoint")
    write_table(Path("train.csv"), 400, seed=0)
    write_table(Path("dev.csv"), 100, seed=1)
    Path("recipe.toml").write_text(RECIPE)
    subprocess.run([sys.executable, "-m", "slimformer", "run", "recipe.toml", "--quiet"], check=True, capture_output=True)

    run = sf.Run("runs/tiny")
    found = run.search(max_flops="3M", max_ratings=12)
    print("winner:", found.best.name, "with", f"{found.best.costs['flops']:,.0f}", "FLOPs")
    print("on the validation split:", dict(run.evaluate(found.best, split="validation").metrics))
    run.export(found.best, "winner")
    print("exported:", type(sf.from_pretrained("winner")).__name__)


if __name__ == "__main__":
    main()
