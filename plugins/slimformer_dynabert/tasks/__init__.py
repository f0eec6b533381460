"""Text classification and regression tasks: GLUE, the user's own files, docstrings of installed libraries."""

from slimformer_dynabert.tasks import docstrings, glue, text_files

__all__ = ["docstrings", "glue", "text_files"]
