"""Text encoders beyond the BERT family, one file per family."""

from slimformer_encoders import albert, deberta, distilbert, modernbert, mpnet

__all__ = ["albert", "deberta", "distilbert", "modernbert", "mpnet"]
