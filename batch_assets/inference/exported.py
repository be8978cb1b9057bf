"""``torch.export`` programs (``.pt2``), of which nothing is unpickled and nothing evaluated unseen.

What torch's own loader does with a file (read in torch 2.13, ``export/pt2_archive/_package.py``
and ``_export/serde/serialize.py``): it unpickles what is marked so, any object among the sample
inputs, and custom objects; it loads native code; it evaluates expressions for shapes as Python;
it takes any callable below ``torch`` for an operator; and it makes Python code of the graph's
names. All of these stand in the file in clear. So they are looked at first, through the reader
that torch then uses on the same bytes, and what is not plain is refused.
"""

import io
import json
import re
import sys
import zipfile
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from batch_assets.inference.foreign_card import CHANGES_STATE, ForeignModelError, first_line

UNBOUNDED = sys.maxsize

_RECORDS = re.compile(
    r"archive_format|archive_version|byteorder|version|\.\w+(/\w+)?|extra/.*|models/model\.json"
    r"|data/weights/(weight_\d+|model_weights_config\.json)"
    r"|data/constants/(tensor_\d+|model_constants_config\.json)"
    r"|data/sample_inputs/model\.pt"
)
_MODEL = "models/model.json"
_CONFIGS = (
    "data/weights/model_weights_config.json",
    "data/constants/model_constants_config.json",
)
_SAMPLE_INPUTS = "data/sample_inputs/model.pt"
_PAYLOAD = re.compile(r"(weight|tensor)_\d+")

# Operators of torch on tensors and on sizes, but for those that touch files, and nothing else that
# can be reached by such a name.
_OPERATORS = re.compile(
    r"torch\.ops\.aten\.(?!(from_file|save|load)\b)(_?[a-zA-Z0-9]\w*|__(and|or|xor)__)\.[a-zA-Z]\w*"
    r"|torch\.sym_\w+"
    r"|_operator\.(add|sub|mul|floordiv|truediv|mod|neg|eq|ne|lt|le|gt|ge|and_|or_|not_|getitem)"
)
# Names that can be nothing but names in the code that torch makes of them.
_NAME = re.compile(r"[\w.\-]*")
_TEXT_ARGUMENT = re.compile(r"[\w.\-, >]*")
# Arithmetic on integers and on sizes that torch named.
_SHAPE = re.compile(
    r"(Symbol\('[su]\d+'(, \w+=(True|False))*\)|-?\d++|[ ,()]"
    r"|(Integer|Add|Mul|Max|Min|Mod|PythonMod|FloorDiv|CeilDiv|CleanDiv|Eq|Ne|And|Or|Not"
    r"|Equality|Unequality|LessThan|StrictLessThan|GreaterThan|StrictGreaterThan)(?=\())*"
)
# Where text may be any text: it is only shown, or not run (guards).
_SHOWN = {"metadata", "torch_version", "guards_code"}
_PLAIN_TREES = {None, "builtins.tuple", "builtins.list", "builtins.dict"}


class ExportedProgram(nn.Module):
    """A program of one input, float32 [n, features].

    Args:
        content: of the file.
        features: how many the input has to have.
        device: on which it runs.

    Attributes:
        outputs: their names; positions where the program gives a tensor, a tuple or a list.
        least, most: rows that it takes at once.
    """

    def __init__(self, content: bytes, features: int, device: torch.device) -> None:
        super().__init__()
        program = _loaded(content)
        self.least, self.most = _rows(_checked_input(program, features), program)
        self.outputs = _output_names(program)
        if device.type != "cpu":
            from torch.export.passes import move_to_device_pass

            program = move_to_device_pass(program, device)
        self._program = program.module(check_guards=False)

    def train(self, mode: bool = True) -> "ExportedProgram":
        """Nothing: what was exported has one mode, and raises when asked for another."""
        return self

    def forward(self, rows: Tensor, wanted: Sequence[int]) -> list[Tensor]:
        """The outputs at these positions, for ``least`` to ``most`` rows."""
        found = self._program(rows)
        values = list(found.values()) if isinstance(found, dict) else found
        values = [values] if isinstance(values, Tensor) else list(values)
        return [values[position] for position in wanted]


def is_exported_program(content: bytes) -> bool:
    """Whether these are the bytes of a ``.pt2`` archive, whole or damaged."""
    return content.startswith(b"PK") and _MODEL.encode() in content


def _loaded(content: bytes) -> Any:
    from torch.export.pt2_archive._package import load_pt2

    try:
        _check_archive(content)
        return load_pt2(io.BytesIO(content)).exported_programs["model"]
    except ForeignModelError:
        raise
    except Exception as error:
        raise ForeignModelError(
            f"torch {torch.__version__} cannot read this program ({first_line(error)}); it may be "
            "damaged, or made by another torch: export it again with this one"
        ) from error


def _check_archive(content: bytes) -> None:
    """Raises ForeignModelError when loading the archive could do anything but load tensors."""
    try:
        reader = torch._C.PyTorchFileReader(io.BytesIO(content))
        records = set(reader.get_all_records())
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            roots = {name.split("/")[0] for name in archive.namelist()}
        documents = {
            name: json.loads(bytes(reader.get_record(name))) for name in (_MODEL, *_CONFIGS)
        }
        samples = bytes(reader.get_record(_SAMPLE_INPUTS))
    except Exception as error:
        raise ForeignModelError(
            f"the .pt2 archive is truncated or damaged ({first_line(error)}); copy or export it "
            "again"
        ) from error
    odd = sorted(name for name in records if not _RECORDS.fullmatch(name))
    if odd or len(roots) != 1:
        raise ForeignModelError(
            f"the .pt2 archive holds {(odd or sorted(roots))[0]!r}, which is no part of a plain "
            "program: compiled code, custom objects and several programs are not loaded; save the "
            "program alone with torch.export.save"
        )
    for name in _CONFIGS:
        _check_payloads(documents[name])
    _check_samples(samples)
    for place, value in _strings(documents[_MODEL]):
        _check_string(place, value)


def _check_payloads(document: Any) -> None:
    for name, payload in document["config"].items():
        if payload["use_pickle"] or not _PAYLOAD.fullmatch(payload["path_name"]):
            raise ForeignModelError(
                f"{name!r} in the .pt2 archive is pickled, and a pickle can run any code when it "
                "is read: export the model with plain tensors as weights, no subclasses or objects"
            )
        device = payload["tensor_meta"]["device"]["type"]
        if device != "cpu":
            raise ForeignModelError(
                f"weight {name!r} was exported on {device}: move model and sample inputs to the "
                "CPU, and export again"
            )


def _check_samples(content: bytes) -> None:
    try:
        if content:
            torch.load(io.BytesIO(content), weights_only=True)
    except Exception as error:
        raise ForeignModelError(
            "the sample inputs in the .pt2 archive are pickled objects, and a pickle can run any "
            "code when it is read: export the model with a tensor as its sample input"
        ) from error


def _strings(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """All strings of a JSON document with the key they stand under, and the keys as names."""
    if isinstance(value, dict):
        for name, inner in value.items():
            # Something else can be called metadata, too.
            if name not in _SHOWN or not _is_text(inner):
                yield "name", name
                yield from _strings(inner, name)
    elif isinstance(value, list):
        for inner in value:
            yield from _strings(inner, key)
    elif isinstance(value, str):
        yield key, value


def _is_text(value: Any) -> bool:
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else []
    return all(isinstance(part, str) for part in parts)


def _check_string(place: str, value: str) -> None:
    if place == "target":
        if not _OPERATORS.fullmatch(value):
            raise ForeignModelError(
                f"the program uses {value!r}, which is none of torch's own operators on tensors: "
                "replace it in the model and export again"
            )
    elif place in ("in_spec", "out_spec"):
        if not value or _types(json.loads(value)) <= _PLAIN_TREES:
            return
        raise ForeignModelError(
            "the program takes or gives something else than tensors in a tuple, list or dict: "
            "return a tuple, or a dict of tensors, and export again"
        )
    elif place == "expr_str":
        if not _SHAPE.fullmatch(value):
            raise ForeignModelError(
                f"a shape in the program depends on {value!r}: only the number of rows may vary; "
                "export again with dynamic_shapes={0: torch.export.Dim.DYNAMIC} for the input"
            )
    elif not (_TEXT_ARGUMENT if place == "as_string" else _NAME).fullmatch(value):
        raise ForeignModelError(
            f"the program has {value[:60]!r} as {place or 'a name'}: only letters, digits, '_' and "
            "'.' are taken; rename it in the model and export again"
        )


def _types(tree: Any) -> set[str | None]:
    """The kinds of containers in a serialized tree."""
    if isinstance(tree, dict):
        return {tree.get("type")} | _types(tree.get("children_spec"))
    return set().union(*map(_types, tree)) if isinstance(tree, list) else set()


def _checked_input(program: Any, features: int) -> Tensor:
    """The program's one input, as torch describes it."""
    signature = program.graph_signature
    kinds = {spec.kind.name for spec in signature.output_specs}
    if kinds != {"USER_OUTPUT"}:
        raise ForeignModelError(CHANGES_STATE)
    nodes = {node.name: node for node in program.graph.find_nodes(op="placeholder")}
    inputs = [nodes[name].meta.get("val") for name in signature.user_inputs if name in nodes]
    if len(inputs) != 1 or not isinstance(inputs[0], Tensor):
        raise ForeignModelError(
            f"the program has {len(signature.user_inputs)} inputs: it has to take one, float32 "
            f"[rows, {features}]"
        )
    rows = inputs[0]
    if rows.dtype != torch.float32 or rows.dim() != 2 or rows.shape[1] != features:
        shape = ", ".join(str(size) for size in rows.shape)
        raise ForeignModelError(
            f"the program's input is {str(rows.dtype).removeprefix('torch.')} [{shape}], and the "
            f"card names {features} features, which come as float32 [rows, {features}]"
        )
    return rows


def _rows(rows: Tensor, program: Any) -> tuple[int, int]:
    """The fewest and the most rows that the input takes."""
    size: Any = rows.shape[0]
    if isinstance(size, int):
        return size, size
    bounds = program.range_constraints.get(size.node.expr)
    if bounds is None:
        raise ForeignModelError(
            f"the number of rows has to be {size}: export with "
            "dynamic_shapes={0: torch.export.Dim.DYNAMIC} for the input, so that any will do"
        )
    most = int(bounds.upper) if bounds.upper.is_Integer else UNBOUNDED
    return max(1, int(bounds.lower)), min(most, UNBOUNDED)


def _output_names(program: Any) -> tuple[str, ...]:
    spec = program.call_spec.out_spec
    tree = pytree.tree_unflatten(range(spec.num_leaves), spec)
    if isinstance(tree, int):
        return ("0",)
    names = tuple(map(str, tree)) if isinstance(tree, dict) else tuple(map(str, range(len(tree))))
    if len(names) != spec.num_leaves:
        raise ForeignModelError(
            "the program's outputs are nested: return a tuple, or a dict of tensors"
        )
    return names
