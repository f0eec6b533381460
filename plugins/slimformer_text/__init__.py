"""Text tasks: GLUE, question answering, and the user's own files; docstrings of installed libraries."""

from slimformer_text import docstrings, glue, squad, text_files, token_files

__all__ = ["docstrings", "glue", "squad", "text_files", "token_files"]
