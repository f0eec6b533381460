"""Which library is this docstring from? Real text that comes along with slimformer's own dependencies, no download.

The text of a docstring is its summary paragraph, read from the library's source files without importing it. Code, markup
and the libraries' names are masked, so that the words of the prose must tell.
"""

from __future__ import annotations

import ast
import random
import re
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from slimformer.errors import DataError
from slimformer.registry import Count, Positive, Seed
from slimformer.tasks import TASKS, TaskData
from slimformer_text.text import Goal, Limits, Rows, build, load_classifier

if TYPE_CHECKING:
    from torch import nn

MASK = "it"
NICKNAMES = ("np", "pd", "plt", "mpl", "nx", "pytorch", "scikit", "huggingface")
NOT_THE_LIBRARY = ("test", "_test", "conftest", "vendor", "_vendor", "extern")
"""How files and folders begin that hold tests or other people's code."""

PARAGRAPH_END = re.compile(
    r"\n[ \t]*\n"  # an empty line
    r"|\n[^\n]*\n\s*[-=~^]{3,}"  # an underlined heading
    r"|\n[ \t]*(?:Arg|Param|Return|Example|Note|Raise|Input|Output)\w*:"  # a heading with a colon
)
ROLE = re.compile(r":[\w:]+:(?=`)")
CODE = re.compile(
    r"`+[^`]*`+"  # quoted
    r"|\S*\w[_.]\w\S*"  # snake_case, dotted.names, 1.5
    r"|\b\w*[a-z]\w*[A-Z]\w*|\b[A-Z]+[a-z]\w*[A-Z]\w*"  # camelCase, CamelCase
    r"|\S*[=<>(){}\[\]@\\]\S*"  # calls, formulas
    r"|(?<!\S)--?\w+"  # flags
)
LEAST_WORDS = 5
MOST_WORDS = 30
MOST_PER_MODULE = 10


@dataclass(frozen=True)
class Summary:
    """The masked summary of one docstring of the file `module`."""

    library: str
    module: str
    text: str


@TASKS.register("docstrings")
@dataclass(frozen=True)
class Docstrings:
    """Which installed library a docstring's summary is from: real data without a download.

    Classes are balanced, and no source file has docstrings in both train and validation.

    libraries: installed packages, or folders of packages ("scipy.stats"); one class each.
    max_train, max_eval: examples of all the classes together.
    calibration_size: examples besides max_train that are held out.
    max_length: tokens per example.
    """

    libraries: tuple[str, ...] = ("matplotlib", "networkx", "pandas", "scipy", "sklearn", "sympy", "torch", "transformers")
    max_train: Count = 4000
    max_eval: Count = 1000
    calibration_size: Count = 256
    max_length: Positive = 48
    seed: Seed = 0
    baselines: bool = True

    def load_model(self, checkpoint: str, attention: str) -> nn.Module:
        return load_classifier(checkpoint, attention, self._goal())

    def load(self, checkpoint: str) -> TaskData:
        train, validation = self.summaries()
        limits = Limits(self.max_length, self.max_train, self.max_eval, self.calibration_size, self.seed, self.baselines)
        return build(checkpoint, self._rows(train), {"validation": self._rows(validation)}, self._goal(), limits)

    def summaries(self) -> tuple[list[Summary], list[Summary]]:
        """(train and calibration, validation): no text twice, no module in both.

        Raises: DataError for a library that is not installed or has too few docstrings, and for less than an example per class.
        """
        count = len(self.libraries)
        if count < 2 or min(self.max_train, self.max_eval) < count:
            raise DataError("the task docstrings needs two libraries or more, and max_train and max_eval of one per library")
        seen: set[str] = set()
        train: list[Summary] = []
        validation: list[Summary] = []
        for library in self.libraries:
            modules = self._modules(library, seen)
            validation += _fill(modules, self.max_eval // count)
            more = _fill(modules, -(-(self.max_train + self.calibration_size) // count))
            if not more:
                raise DataError(
                    f"the library {library!r} has too few docstrings; lower max_eval or leave it out of `libraries`"
                )
            train += more
        return train, validation

    def _modules(self, library: str, seen: set[str]) -> Iterator[list[Summary]]:
        """The summaries of each module of a library that has any, the modules in random order; `seen` grows."""
        root = library_folder(library)
        files = source_files(root)
        random.Random(f"{self.seed} {library}").shuffle(files)
        names = re.compile(rf"\b({'|'.join(map(re.escape, _names(self.libraries)))})\b", re.IGNORECASE)
        for file in files:
            texts = [mask(text, names) for text in paragraphs(file)]
            fresh = {_key(text): text for text in texts if _is_prose(text) and _key(text) not in seen}
            seen.update(fresh)
            if fresh:
                module = file.relative_to(root).as_posix()
                yield [Summary(library, module, text) for text in list(fresh.values())[:MOST_PER_MODULE]]

    def _goal(self) -> Goal:
        return Goal(self.libraries, ("accuracy",))

    def _rows(self, summaries: Sequence[Summary]) -> Rows:
        numbers = {library: number for number, library in enumerate(self.libraries)}
        return Rows([(summary.text,) for summary in summaries], [numbers[summary.library] for summary in summaries])


def library_folder(library: str) -> Path:
    """Where a library's source files lie; the library is not imported.

    Raises: DataError for a library that is not installed as a folder of source files.
    """
    top, *inner = library.split(".")
    spec = find_spec(top) if top else None
    places = list(spec.submodule_search_locations or ()) if spec else []
    folder = Path(places[0], *inner) if places else Path()
    if not places or not folder.is_dir():
        raise DataError(f"the library {library!r} is not installed as a package; install it or leave it out of `libraries`")
    return folder


def source_files(root: Path) -> list[Path]:
    """The library's own source files, sorted; tests and vendored code are left out."""
    files = sorted(root.rglob("*.py"))
    return [file for file in files if not any(part.startswith(NOT_THE_LIBRARY) for part in file.relative_to(root).parts)]


def paragraphs(file: Path) -> Iterator[str]:
    """The first paragraph of the docstring of the module, its classes, functions and methods; none if it does not parse."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a stranger's invalid escapes
            tree = ast.parse(file.read_bytes())
    except (SyntaxError, ValueError):
        return
    pending: list[ast.AST] = [tree]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield PARAGRAPH_END.split(f"\n{(ast.get_docstring(node) or '').strip()}\n")[0]
        if isinstance(node, ast.Module | ast.ClassDef):
            pending += reversed(node.body)


def mask(text: str, names: re.Pattern[str]) -> str:
    """The text with code and the libraries' names replaced, cut to `MOST_WORDS` words."""
    short = " ".join(text.split()[: 2 * MOST_WORDS])
    prose = names.sub(MASK, CODE.sub(MASK, ROLE.sub("", short)))
    return " ".join(prose.split()[:MOST_WORDS])


def _names(libraries: Sequence[str]) -> list[str]:
    return sorted({part for library in libraries for part in library.split(".")}.union(NICKNAMES))


def _is_prose(text: str) -> bool:
    return sum(word != MASK for word in re.findall(r"[A-Za-z]+", text)) >= LEAST_WORDS


def _key(text: str) -> str:
    """What two texts share that differ in case, digits and punctuation only."""
    return re.sub(r"[\W\d]+", " ", text.lower())


def _fill(modules: Iterator[list[Summary]], size: int) -> list[Summary]:
    """Summaries of whole modules taken off the iterator, cut to `size`."""
    taken: list[Summary] = []
    while len(taken) < size:
        more = next(modules, [])
        if not more:
            break
        taken += more
    return taken[:size]
