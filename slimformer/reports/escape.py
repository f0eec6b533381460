"""Names of runs, sub-networks, labels and files as text that no page, card, table or terminal takes for anything else."""

from __future__ import annotations

import html
import re

from rich.markup import escape

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
"""Control characters (line breaks, terminal escapes) and those that turn the direction of writing."""

_MARKDOWN = re.compile(r"([\\`*_{}\[\]|#~])")
"""Characters that Markdown reads; HTML's are replaced by entities."""


def plain(text: str) -> str:
    r"""Text on one line, its control characters written out, as \x1b is."""
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)


def for_html(text: str) -> str:
    """Text as HTML that shows it, in an element or a quoted attribute; line breaks stay."""
    return "\n".join(html.escape(plain(line)) for line in text.split("\n"))


def for_markdown(text: str) -> str:
    """Text as Markdown that shows it, in a paragraph, a heading or a cell of a table."""
    return _MARKDOWN.sub(r"\\\1", html.escape(plain(text), quote=False))


def for_rich(text: str) -> str:
    """Text as rich markup that shows it: a whole line, title or cell; no tag may follow it.

    `rich.markup.escape` alone doubles a backslash at the end.
    """
    return escape(plain(text) + " ")[:-1]
