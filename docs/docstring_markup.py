"""Turn the docstrings of this project into reStructuredText, for the API reference.

A docstring is a first sentence, paragraphs, option lines ("name: meaning", continued by indented lines), lines such as
"Raises: ...", numbered laws, lists, and fenced examples.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

NOTES = ("Raises", "Returns", "Yields", "Source", "Law", "Laws", "Reads", "Writes")
"""Words that begin a line of their own with a colon."""

_ITEM = re.compile(r"(\d+\.|[*-]) +(.*)")
_NAMES = r"[A-Za-z_][\w.]*(?:(?:, | and )[A-Za-z_][\w.]*)*"


def to_rst(lines: Sequence[str], options: Iterable[str] = ()) -> list[str]:
    """The reStructuredText of a docstring's lines.

    options: the names of parameters and fields, whose lines become a list of parameters.
    """
    known = set(options)
    out: list[str] = []
    for block, is_code in _blocks(lines):
        if block[0].lstrip().startswith(">>>"):
            out += ["", *(line.strip() for line in block), ""]
        elif is_code:
            out += ["", ".. code-block:: python", "", *(f"   {line}" for line in block), ""]
        else:
            out += ["", *_paragraphs(block, known)]
    return out


def _blocks(lines: Sequence[str]) -> Iterable[tuple[list[str], bool]]:
    """The blocks of a docstring, each with whether it is a fenced example."""
    block: list[str] = []
    is_code = False
    for line in lines:
        if line.strip().startswith("```"):
            if block:
                yield block, is_code
            block, is_code = [], not is_code
        elif is_code or line.strip():
            block.append(line)
        elif block:
            yield block, False
            block = []
    if block:
        yield block, is_code


def _paragraphs(block: Sequence[str], known: set[str]) -> list[str]:
    """A block as paragraphs of one line each, so that indentation has no meaning."""
    parts: list[list[str]] = []
    for line in block:
        starts = not parts or _ITEM.match(line.strip()) or (not line.startswith(" ") and _head(line, known))
        if starts:
            parts.append([line.strip()])
        else:
            parts[-1].append(line.strip())
    out: list[str] = []
    for part in parts:
        out += _marked(" ".join(part), known)
    return out


def _head(line: str, known: set[str]) -> tuple[str, str] | None:
    """The names and the text of an option line or a note."""
    match = re.match(rf"({_NAMES})(?: over [a-z]+)?: (.*)|({'|'.join(NOTES)})\b([^:]*):(.*)", line)
    if match is None:
        return None
    if match[1] and set(re.split(r", | and ", match[1])) <= known:
        return match[1], match[2]
    word = match[1] or match[3]
    return (word, match[2] or (match[4] or "") + (match[5] or "")) if word in NOTES else None


def _marked(text: str, known: set[str]) -> list[str]:
    item, head = _ITEM.match(text), _head(text, known)
    if item:
        marker = "*" if item[1] in "*-" else item[1]
        return ["", f"{marker} {escape(item[2])}", ""]
    if head and head[0] in NOTES:
        return ["", f"**{head[0]}:** {escape(head[1].strip())}", ""]
    if head:
        return [f":param {name}: {escape(head[1])}" for name in re.split(r", | and ", head[0])]
    return ["", escape(text), ""]


def escape(text: str) -> str:
    """Text with its code in double backticks and everything else without a meaning in reStructuredText."""
    parts = re.split(r"(`+)(.+?)\1", text)
    plain, code = parts[0::3], parts[2::3]
    escaped = [re.sub(r"([\\*|]|_(?!\w)|`)", r"\\\1", part) for part in plain]
    out = escaped[0]
    for piece, following in zip(code, escaped[1:], strict=True):
        before = "\\ " if out and out[-1].isalnum() else ""
        after = "\\ " if following and following[0].isalnum() else ""
        out += f"{before}``{piece}``{after}{following}"
    return out
