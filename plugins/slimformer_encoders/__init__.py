"""Text encoders, one file per family."""

from slimformer_encoders import albert, bert, deberta, distilbert, modernbert, mpnet

__all__ = ["albert", "bert", "deberta", "distilbert", "modernbert", "mpnet"]
