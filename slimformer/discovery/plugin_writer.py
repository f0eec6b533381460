"""A proposal as the text of a plugin file: a backbone that reads its sizes from the model's own modules."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from slimformer.backbones.layers import is_linear, type_of
from slimformer.discovery.patterns import Pattern, common_parent, config_field
from slimformer.discovery.proposal import Proposal, Stack
from slimformer.discovery.source_check import (
    check_source,
    checked_identifier,
    checked_path,
    in_docstring,
    is_identifier,
    quoted,
)
from slimformer.discovery.units import CoupledUnits
from slimformer.supernet.outputs import Batch

WIDTH = 120

LONGEST = ("max_position_embeddings", "n_positions", "max_seq_len")


def backbone_name(model: nn.Module) -> str:
    """What a backbone for a model is called: its `model_type`, or its class's name, as an identifier."""
    name = type_of(model) or re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", type(model).__name__)
    return re.sub(r"\W", "_", name).lower()


def plugin_source(model: nn.Module, batch: Batch, proposal: Proposal, name: str) -> str:
    """The plugin file of a proposal: one function for each pattern, whose sizes come from the model that it is given.

    name: what the backbone is registered as.
    """
    functions: dict[str, list[str]] = {}
    body: list[str] = []
    for stack in proposal.stacks:
        body += _stack_lines(model, stack, functions)
    kept = [_block_stack(stack) for stack in proposal.stacks if stack.is_depth]
    axes = ", ".join(proposal.topology.axes)
    title = f"{checked_identifier(type(model).__name__)}: {axes}; found by tracing, all nine laws held."
    refused = [in_docstring(f"    {refusal.module}: {refusal.reason}")[:WIDTH] for refusal in proposal.refusals]
    notes = ["", "    These stay whole:", *refused] if refused else []
    lines = [
        f"@BACKBONES.register({quoted(checked_identifier(name))})",
        "@dataclass(frozen=True)",
        f"class {_camel(name)}:",
        f'    """{title}' + ("" if notes else '"""'),
        *notes,
        *(['    """'] if notes else []),
        "",
        "    def describes(self, model: Any) -> bool:",
        *_describes(model, proposal),
        "",
        "    def topology(self, model: Any) -> Topology:",
        "        groups = []",
        *body,
        *_call("        return Topology(", ["tuple(groups)", _tuple(kept)]),
        "",
        "    def example(self, model: Any, batch_size: int, length: int) -> Any:",
        *_example(model, batch),
    ]
    text = "\n".join([*lines, *(line for function in functions.values() for line in ["", "", *function])]) + "\n"
    source = f"{_head(model, text)}\n\n\n{text}"
    check_source(source)
    return source


def _describes(model: nn.Module, proposal: Proposal) -> list[str]:
    """The lines that test another model for what the topology assumes: its kind, its settings and the modules of its blocks."""
    kind = type_of(model)
    tests = [f"type_of(model) == {quoted(kind)}" if kind else f"type(model).__name__ == {quoted(type(model).__name__)}"]
    settings = _settings(model)
    if settings:
        tests.append(f"has_settings(model, {{{', '.join(f'{quoted(name)}: {value!r}' for name, value in settings.items())}}})")
    for stack in proposal.stacks:
        path = stack.block_stack.path
        used = list(dict.fromkeys(m for patterns in stack.patterns for p in patterns for m in p.candidate.modules if m))
        shared = [m for m in used if all(any(m in p.candidate.modules for p in patterns) for patterns in stack.patterns)]
        if path:
            tests.append(f"has_modules(model, {_path(model, path)}, {_tuple([quoted(checked_path(name)) for name in shared])})")
    if len(tests) == 1:
        return [f"        return {tests[0]}"]
    return ["        return (", f"            {tests[0]}", *(f"            and {test}" for test in tests[1:]), "        )"]


def _settings(model: nn.Module) -> dict[str, bool]:
    """The switches of a model's own configuration, which may change what its blocks compute."""
    config: Any = getattr(model, "config", None)
    if not hasattr(config, "to_dict"):
        return {}
    from transformers import PreTrainedConfig

    common = {*PreTrainedConfig().to_dict(), "use_cache", "tie_word_embeddings", "is_decoder"}
    return {k: v for k, v in config.to_dict().items() if type(v) is bool and k not in common and is_identifier(str(k))}


def _head(model: nn.Module, text: str) -> str:
    names = ("BACKBONES", "BlockStack", "Slice", "Topology", "UnitGroup", "counts", "entries", "has_modules", "has_settings",
             "image_example", "in_features", "prefix_of", "reads", "text_example", "type_of", "writes")  # fmt: skip
    used = ", ".join(name for name in names if re.search(rf"\b{name}\b", text))
    torch_import = "import torch\n\n" if re.search(r"\btorch\.", text) else ""
    return (
        f'"""A backbone for {type(model).__name__}, proposed by slimformer from a trace of it: yours to keep and edit."""\n\n'
        "from __future__ import annotations\n\nfrom dataclasses import dataclass\nfrom typing import Any\n\n"
        f"{torch_import}from slimformer.backbones import {used}"
    )


def _stack_lines(model: nn.Module, stack: Stack, functions: dict[str, list[str]]) -> list[str]:
    """The lines that add a stack's groups; its patterns are added to `functions`, each once."""
    spec = stack.block_stack
    if not spec.path:
        return [
            f'        groups.append({_add(model, model, pattern, f"{pattern.name}", functions)}(model, "", {quoted(checked_path(pattern.name))}))'
            for pattern in stack.patterns[0]
        ]
    path = _variable(spec.name)
    lines = [f"        {path} = {_path(model, spec.path)}"]
    every = list(range(spec.num_blocks))
    distinct = list(dict.fromkeys(stack.patterns))
    for patterns in distinct:
        if not patterns:
            continue
        blocks = [index for index in every if stack.patterns[index] == patterns]
        block = model.get_submodule(f"{spec.path}.{blocks[0]}")
        whole = f"range(len(model.get_submodule({path})))"
        lines.append(f"        for index in {whole if blocks == every else tuple(blocks)}:")
        for pattern in patterns:
            call = _add(model, block, pattern, spec.name, functions)
            name = f'f"{checked_path(spec.name)}.{{index}}.{checked_path(pattern.name)}"'
            lines.append(f'            groups.append({call}(model, f"{{{path}}}.{{index}}.", {name}))')
    return lines


def _add(model: nn.Module, block: nn.Module, pattern: Pattern, stack: str, functions: dict[str, list[str]]) -> str:
    """Add the function that makes a pattern's group; returns its name."""
    name = f"_{_variable(stack)}_{_variable(pattern.name)}" if stack != pattern.name else f"_{_variable(pattern.name)}"
    lines = _function(model, block, pattern)
    while name in functions and functions[name][1:] != lines:
        name += "_"
    functions[name] = [f"def {name}(model: Any, block: str, name: str) -> UnitGroup:", *lines]
    return name


def _function(model: nn.Module, block: nn.Module, pattern: Pattern) -> list[str]:
    candidate, parts = pattern.candidate, []
    weights = {tie.source.name for tie in candidate.ties}
    for tie in candidate.ties:
        owner, _, leaf = tie.source.name.rpartition(".")
        if not (leaf == "bias" and is_linear(block.get_submodule(owner)) and f"{owner}.weight" in weights):
            parts += _slices(block, tie)
    parts += [f'*reads(model, f"{{block}}{checked_path(reader)}", number)' for reader in candidate.readers]
    kept = [
        f'*counts(model, f"{{block}}{checked_path(module)}"'
        + (".rstrip('.')" if not module else "")
        + f", number, {_quoted(keys)})"
        for module, keys in pattern.counts.items()
        if keys
    ]
    field = config_field(model, pattern)
    last = [f"config_field={quoted(field)}"] if field else []
    return [
        f"    number = {_number(model, block, pattern)}",
        "    slices = (",
        *(f"        {part}," for part in parts),
        "    )",
        *_call("    return UnitGroup(", ["name", f'"width.{pattern.kind}"', "number", "slices", _tuple(kept), *last]),
    ]


def _slices(block: nn.Module, tie: CoupledUnits) -> list[str]:
    owner, _, leaf = tie.source.name.rpartition(".")
    sizes = {part.unit_size for part in tie.parts}
    parts = f", parts={len(tie.parts)}" if len(tie.parts) > 1 else ""
    if len(sizes) > 1:
        role = "writes" if leaf == "weight" else ""
        return [
            f'Slice(f"{{block}}{checked_path(tie.source.name)}", {tie.source.dim}, {part.unit_size}, {part.start}, "{role}")'
            for part in tie.parts
        ]
    if is_linear(block.get_submodule(owner)):
        return [f'*writes(model, f"{{block}}{checked_path(owner)}", number{parts})']
    return [f'*entries(model, f"{{block}}{checked_path(tie.source.name)}", {tie.source.dim}, number{parts})']


def _number(model: nn.Module, block: nn.Module, pattern: Pattern) -> str:
    """The expression that gives the number of units of another model of the same family."""
    number = pattern.candidate.number
    if pattern.kind == "ffn":
        return f'in_features(model, f"{{block}}{checked_path(next(iter(pattern.candidate.readers)))}")'
    words = common_parent(pattern.candidate.modules).split(".")
    for depth in range(len(words), -1, -1):
        module = ".".join(words[:depth])
        for key in _head_counts(vars(block.get_submodule(module)), number):
            return (
                f'model.get_submodule(f"{{block}}{checked_path(module)}").{key}'
                if module
                else f'model.get_submodule(block.rstrip(".")).{key}'
            )
    config: Any = getattr(model, "config", None)
    fields = config.to_dict() if hasattr(config, "to_dict") else {}
    return next((f"model.config.{key}" for key in _head_counts(fields, number)), str(number))


def _head_counts(values: Mapping[str, Any], number: int) -> list[str]:
    """The names of counts of heads, those of key-value heads first, as the others may differ from them in another model."""
    named = [key for key, value in values.items() if type(value) is int and value == number and "heads" in key]
    named += [key for key, value in values.items() if type(value) is int and value == number and key == "n_head"]
    named = [key for key in named if is_identifier(key)]
    return sorted(named, key=lambda key: not ("key_value" in key or "kv" in key))


def _block_stack(stack: Stack) -> str:
    spec = stack.block_stack
    path = _variable(spec.name)
    options = [
        *([f"config_field={quoted(spec.config_field)}"] if spec.config_field != "num_hidden_layers" else []),
        *([f"config_lists={_tuple([quoted(name) for name in spec.config_lists])}"] if spec.config_lists else []),
        *([f"index_attribute={quoted(spec.index_attribute)}"] if spec.index_attribute != "layer_idx" else []),
    ]
    first = [quoted(spec.name), quoted(spec.axis), path, f"len(model.get_submodule({path}))"]
    return f"BlockStack({', '.join([*first, *options])})"


def _path(model: Any, path: str) -> str:
    """A module's name as an expression that holds with and without a head on the model."""
    path = checked_path(path)
    prefix = checked_path(getattr(model, "base_model_prefix", ""))
    if type_of(model) and hasattr(model, "base_model_prefix"):
        return f'f"{{prefix_of(model)}}{path.removeprefix(f"{prefix}.")}"'
    return f'"{path}"'


def _example(model: nn.Module, batch: Mapping[str, Tensor]) -> list[str]:
    config: Any = getattr(model, "config", None)
    longest = next((name for name in LONGEST if hasattr(config, name)), "")
    if longest and set(batch) == {"input_ids", "attention_mask"}:
        return [f"        return text_example(batch_size, length, model.config.{longest})"]
    if len(batch) == 1 and next(iter(batch.values())).dim() == 4:
        name, tensor = next(iter(batch.items()))
        sizes = ", ".join(map(str, tensor.shape[1:]))
        return [f"        return image_example({quoted(name)}, (batch_size, {sizes}), model)"]
    parts = [f"            {quoted(name)}: {_tensor(name, tensor)}," for name, tensor in batch.items()]
    return ["        return {", *parts, "        }"]


def _tensor(name: str, tensor: Tensor) -> str:
    is_text = tensor.dim() == 2 and not tensor.is_floating_point()
    shape = "(batch_size, length)" if is_text else f"(batch_size, {', '.join(map(str, tensor.shape[1:]))})"
    if "mask" in name:
        return f"torch.ones({shape}, dtype={tensor.dtype})"
    if is_text:
        return f"torch.full({shape}, 1)"
    return f"torch.zeros({shape}, dtype={tensor.dtype})"


def _variable(name: str) -> str:
    return re.sub(r"\W", "_", name)


def _camel(name: str) -> str:
    return "".join(word.capitalize() for word in name.split("_"))


def _quoted(names: Sequence[str]) -> str:
    return ", ".join(quoted(name) for name in names)


def _call(head: str, arguments: Sequence[str]) -> list[str]:
    """The lines of a call: one where it is short, or one for each argument."""
    line = f"{head}{', '.join(arguments)})"
    indent = " " * (len(head) - len(head.lstrip()))
    return [line] if len(line) <= WIDTH else [head, *(f"{indent}    {argument}," for argument in arguments), f"{indent})"]


def _tuple(items: Sequence[str]) -> str:
    if len(items) == 1 and items[0].startswith("*counts("):
        return items[0].removeprefix("*")
    return f"({', '.join(items)}{',' if len(items) == 1 else ''})"
