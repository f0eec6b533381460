"""A tiny real model of every family, for the laws and for the table in the documentation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import timm
import torch
import transformers
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from slimformer import SuperNet, testing
from slimformer.backbones import backbone_for
from slimformer.costs import COSTS, Workload
from slimformer_counters.flops import sdpa_mapping
from tests.conftest import build_tiny

CLASSIFIER = "ForSequenceClassification"
IMAGES = "ForImageClassification"
BERT_SIZES = {
    "hidden_size": 32, "num_attention_heads": 4, "intermediate_size": 48, "num_hidden_layers": 3, "vocab_size": 60,
    "max_position_embeddings": 40, "pad_token_id": 1,
}  # fmt: skip
MODERN_SIZES = BERT_SIZES | {"bos_token_id": 1, "eos_token_id": 2, "cls_token_id": 1, "sep_token_id": 2, "local_attention": 4}
DISTIL_SIZES = {
    "dim": 32, "n_heads": 4, "hidden_dim": 48, "n_layers": 3, "vocab_size": 60, "max_position_embeddings": 40,
}  # fmt: skip
DEBERTA_SIZES = BERT_SIZES | {
    "relative_attention": True, "pos_att_type": ["c2p", "p2c"], "share_att_key": True, "position_buckets": 8,
    "norm_rel_ebd": "layer_norm",
}  # fmt: skip
ENDLESS = {"bos_token_id": 1, "eos_token_id": None, "pad_token_id": 0, "use_cache": False}
LLAMA_SIZES = ENDLESS | {
    "hidden_size": 32, "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 4, "intermediate_size": 48,
    "num_hidden_layers": 3, "vocab_size": 60, "max_position_embeddings": 40,
}  # fmt: skip
MIXED = {"layer_types": ["sliding_attention", "full_attention", "sliding_attention"], "sliding_window": 4}
WINDOW = MIXED | {"use_sliding_window": True}
GPT2_SIZES = ENDLESS | {"n_embd": 32, "n_head": 4, "n_layer": 3, "n_inner": 48, "n_positions": 40, "vocab_size": 60}
MOE = {"num_experts_per_tok": 2, "moe_intermediate_size": 24, "experts_implementation": "batched_mm"}
VIT_SIZES = {"hidden_size": 32, "num_attention_heads": 4, "num_hidden_layers": 3, "image_size": 12, "patch_size": 4}
TIMM_SIZES = {
    "img_size": 12, "patch_size": 4, "embed_dim": 32, "depth": 3, "num_heads": 4, "mlp_ratio": 1.5, "num_classes": 5,
}  # fmt: skip
WRAPPED_SIZES = {name: size for name, size in TIMM_SIZES.items() if name != "num_classes"}
SWIN_SIZES = {
    "img_size": 16, "patch_size": 2, "window_size": 4, "embed_dim": 16, "depths": (2, 2), "num_heads": (2, 4),
    "mlp_ratio": 1.5, "num_classes": 5,
}  # fmt: skip
T5_SIZES = ENDLESS | {
    "d_model": 32, "d_kv": 8, "d_ff": 24, "num_heads": 4, "num_layers": 3, "num_decoder_layers": 2, "vocab_size": 60,
    "relative_attention_num_buckets": 8, "relative_attention_max_distance": 10, "decoder_start_token_id": 0,
}  # fmt: skip
TOWER = {"hidden_size": 32, "num_attention_heads": 4, "num_hidden_layers": 2, "intermediate_size": 24}
CLIP_TEXT = TOWER | {"vocab_size": 60, "max_position_embeddings": 20, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
WHISPER_SIZES = ENDLESS | {
    "d_model": 32, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4, "decoder_attention_heads": 4,
    "encoder_ffn_dim": 24, "decoder_ffn_dim": 16, "vocab_size": 60, "num_mel_bins": 4, "max_source_positions": 6,
    "max_target_positions": 24, "decoder_start_token_id": 1, "suppress_tokens": [], "begin_suppress_tokens": [],
}  # fmt: skip


def scatter_(model: nn.Module, std: float = 0.3) -> Any:
    """Draw every weight far enough from zero that each unit matters, biases and norms too; in eval mode."""
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        parameter.data = noise * std if parameter.dim() > 1 else parameter.data + 0.1 * noise
    return model.eval()


def build(family: str, head: str, attention: str, *, config: str = "", **sizes: Any) -> Any:
    """A model of a transformers family with random weights, in eval mode, the same one at each call.

    config: the configuration's name, where it is not the family's.
    """
    made = getattr(transformers, f"{config or family}Config")(**sizes, attn_implementation=attention)
    return scatter_(getattr(transformers, f"{family}{head}")(made))


def build_timm(name: str, attention: str, **sizes: Any) -> Any:
    """A model of timm, likewise; "sdpa" is what timm calls fused."""
    model = scatter_(timm.create_model(name, **sizes))
    for module in model.modules():
        if hasattr(module, "fused_attn"):
            module.fused_attn = attention == "sdpa"
    return model


def build_wrapped_timm(name: str, attention: str, **sizes: Any) -> Any:
    """A model of timm inside transformers' wrapper, which gives it the number of classes itself."""
    config = transformers.TimmWrapperConfig(architecture=name, model_args=sizes, num_labels=5)
    model = scatter_(transformers.TimmWrapperForImageClassification(config))
    for module in model.modules():
        if hasattr(module, "fused_attn"):
            module.fused_attn = attention == "sdpa"
    return model


def build_clip(attention: str) -> Any:
    vision = TOWER | {"image_size": 12, "patch_size": 4}
    config = transformers.CLIPConfig(
        text_config=CLIP_TEXT, vision_config=vision, projection_dim=16, attn_implementation=attention
    )
    return scatter_(transformers.CLIPModel(config))


@dataclass(frozen=True)
class Family:
    """How to build a tiny model of a family, given the kind of attention, and the kinds that its classes have.

    is_routed: whether a router picks experts by their scores; in bfloat16 two of them may be equal, and the order of the experts
        decides, so that law 2 (rewiring changes nothing) holds in float32 only.
    """

    build: Callable[[str], Any]
    attentions: tuple[str, ...] = ("eager", "sdpa")
    is_routed: bool = False

    @property
    def bfloat16_laws(self) -> tuple[Callable[[testing.Case], None], ...]:
        return tuple(law for law in testing.LAWS if not self.is_routed or law is not testing.check_rewiring)


def _bert(name: str) -> Family:
    return Family(lambda attention: build_tiny(name, attention=attention))


def _encoder(name: str, sizes: dict[str, Any], *attentions: str) -> Family:
    return Family(lambda attention: build(name, CLASSIFIER, attention, **sizes), attentions or ("eager", "sdpa"))


def _decoder(name: str, sizes: dict[str, Any], *attentions: str, config: str = "", head: str = "ForCausalLM") -> Family:
    def made(attention: str) -> Any:
        return build(name, head, attention, config=config, **sizes)

    return Family(made, attentions or ("eager", "sdpa"), is_routed="num_experts_per_tok" in sizes)


def _vit(name: str, head: str = IMAGES, **sizes: Any) -> Family:
    return Family(lambda attention: build(name, head, attention, **VIT_SIZES | sizes))


def _timm(name: str, sizes: dict[str, Any]) -> Family:
    return Family(lambda attention: build_timm(name, attention, **sizes))


def _seq2seq(name: str, sizes: dict[str, Any]) -> Family:
    return Family(lambda attention: build(name, "ForConditionalGeneration", attention, **sizes))


FAMILIES: dict[str, Family] = {
    "BERT": _bert("Bert"),
    "RoBERTa": _bert("Roberta"),
    "XLM-R": _bert("XLMRoberta"),
    "CamemBERT": _bert("Camembert"),
    "ELECTRA": _bert("Electra"),
    "DistilBERT": _encoder("DistilBert", DISTIL_SIZES),
    "ALBERT": _encoder("Albert", BERT_SIZES | {"embedding_size": 16}),
    "MPNet": _encoder("MPNet", BERT_SIZES, "eager"),
    "DeBERTa-v2": _encoder("DebertaV2", DEBERTA_SIZES, "eager"),
    "ModernBERT": _encoder("ModernBert", MODERN_SIZES),
    "GPT-2": _decoder("GPT2", GPT2_SIZES, head="LMHeadModel"),
    "Llama": _decoder("Llama", LLAMA_SIZES | {"tie_word_embeddings": True, "attention_bias": True}),
    "Mistral": _decoder("Mistral", LLAMA_SIZES | {"sliding_window": 4}),
    "Qwen2": _decoder("Qwen2", LLAMA_SIZES | WINDOW),
    "Qwen3": _decoder("Qwen3", LLAMA_SIZES | WINDOW),
    "Gemma": _decoder("Gemma", LLAMA_SIZES | {"hidden_activation": "gelu_pytorch_tanh"}),
    "Gemma-2": _decoder("Gemma2", LLAMA_SIZES | MIXED, "eager"),
    "Gemma-3": _decoder("Gemma3", LLAMA_SIZES | MIXED, config="Gemma3Text"),
    "Phi-3": _decoder("Phi3", LLAMA_SIZES),
    "Mixtral": _decoder("Mixtral", LLAMA_SIZES | MOE | {"num_local_experts": 5, "intermediate_size": 24}),
    "Qwen2-MoE": _decoder(
        "Qwen2Moe", LLAMA_SIZES | MOE | {"num_experts": 5, "shared_expert_intermediate_size": 16, "mlp_only_layers": [2]}
    ),
    "Qwen3-MoE": _decoder("Qwen3Moe", LLAMA_SIZES | MOE | {"num_experts": 5, "experts_implementation": "eager"}),
    "T5": _seq2seq("T5", T5_SIZES),
    "T5 1.1": _seq2seq("T5", T5_SIZES | {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}),
    "Whisper": _seq2seq("Whisper", WHISPER_SIZES),
    "CLIP": Family(build_clip),
    "ViT": _vit("ViT", intermediate_size=48),
    "DeiT": _vit("DeiT", "ForImageClassificationWithTeacher", intermediate_size=48),
    "DINOv2": _vit("Dinov2", mlp_ratio=2, use_swiglu_ffn=True),
    "timm ViT": _timm("vit_tiny_patch16_224", TIMM_SIZES | {"init_values": 0.5}),
    "timm ViT in transformers": Family(
        lambda attention: build_wrapped_timm("vit_tiny_patch16_224", attention, **WRAPPED_SIZES)
    ),
    "timm DeiT": _timm("deit_tiny_distilled_patch16_224", TIMM_SIZES),
    "timm Swin": _timm("swin_tiny_patch4_window7_224", SWIN_SIZES),
    "timm BEiT": _timm("beitv2_base_patch16_224", TIMM_SIZES | {"init_values": 1.0}),
    "timm EVA-02": _timm("eva02_tiny_patch14_224", TIMM_SIZES | {"mlp_ratio": 3}),
}


def few_specs(model: Any, count: int = 2) -> tuple[Any, ...]:
    """The full sub-network, the smallest uniform one and some random ones."""
    topology = backbone_for(model).topology(model)
    random = testing.random_specs(topology, count, torch.Generator().manual_seed(1))
    return (topology.full, testing.uniform_specs(topology)[-1], *random)


def check_flops(model: Any) -> None:
    """The FLOPs of two random sub-networks are those that torch's counter sees while their extractions run."""
    backbone = backbone_for(model)
    supernet = SuperNet(model, backbone.topology(model))
    price = COSTS.build("flops").price(supernet, backbone, Workload(2, 9))
    for spec in testing.random_specs(supernet.topology, 2, torch.Generator().manual_seed(0)):
        counter = FlopCounterMode(display=False, custom_mapping=sdpa_mapping())
        with torch.no_grad(), counter:
            supernet.extract(spec)(**backbone.example(model, 2, 9))
        assert price(spec) == counter.get_total_flops()
