"""DynaBERT as a plugin: BERT-family backbones, the paper's depth rules, GLUE and other text tasks."""

from slimformer_dynabert import backbones, depth, tasks

__all__ = ["backbones", "depth", "tasks"]
