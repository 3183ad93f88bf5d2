"""Views of code: functions, classes, modules, exceptions."""

from __future__ import annotations

import ast
import functools
import inspect
import linecache
import textwrap
import types
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from .parts import Body, class_name, is_a, mro, one_line, printable, type_name

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .parts import Wanted

#: Frames of a traceback, errors of a chain, members of a group.
_FRAMES, _CHAIN, _MEMBERS = 8, 3, 5

_FUNCTIONS = (types.FunctionType, types.MethodType, functools._lru_cache_wrapper)  # noqa: SLF001 -- the type of what lru_cache returns
_BUILTINS = (types.BuiltinFunctionType, types.MethodDescriptorType, types.WrapperDescriptorType)


def is_code(value: object) -> bool:
    """Whether a value is a function, a class or a module."""
    return is_a(value, *_FUNCTIONS, *_BUILTINS, type, types.ModuleType)


def view(value: Any, wanted: Wanted) -> Body:
    """Return the view of a function, a class or a module."""
    if is_a(value, types.ModuleType):
        return _module(value, wanted)
    is_class = is_a(value, type)
    source = _class_source(value) if is_class else _source(value)
    facts = (
        class_name(value) if is_class else one_line(str(getattr(value, "__qualname__", "")))[:100]
    )
    if source:
        return Body(facts, _cut(source, wanted), "python")
    outline = _outline(value, wanted) if is_class else _signature(value, wanted)
    return Body(f"{facts}, its source is not to be had", _cut(outline, wanted), "python")


def _cut(text: str, wanted: Wanted) -> str:
    return printable(wanted.ends(text, wanted.long_limit - 200))


def _source(value: Any) -> str:
    try:
        return textwrap.dedent(inspect.getsource(inspect.unwrap(value))).rstrip()
    except (OSError, TypeError, ValueError, SyntaxError, IndexError):
        return ""


# -- classes ------------------------------------------------------------------------------------


def _class_source(cls: type) -> str:
    """Return the source of a class.

    `inspect` finds the file of a class by its module, and a notebook's has none. Its cells
    are in `linecache`, where IPython puts them for tracebacks.
    """
    if cls.__module__ != "__main__":
        return _source(cls)
    for lines in _candidates(cls):
        if found := _class_in("".join(lines), cls.__qualname__):
            return found
    return _source(cls)


def _candidates(cls: type) -> Iterator[list[str]]:
    """Yield the lines of the files and cells that may define a class, the likeliest first."""
    for member in vars(cls).values():
        code = getattr(getattr(member, "__func__", member), "__code__", None)
        if code is not None and code.co_qualname.startswith(f"{cls.__qualname__}."):
            yield linecache.getlines(code.co_filename)
    # What is not read again from a file has no time of change: the cells.
    for entry in reversed(list(linecache.cache.values())):
        if len(entry) == 4 and entry[1] is None:
            yield entry[2]


def _class_in(source: str, qualname: str) -> str:
    if f"class {qualname.rpartition('.')[2]}" not in source:
        return ""
    try:
        body: list[ast.stmt] = ast.parse(source).body
    except (SyntaxError, ValueError, RecursionError):
        return ""
    found = None
    for name in qualname.split("."):
        if name == "<locals>":
            continue
        # The last one counts: a cell may define a class twice.
        found = next(
            (
                node
                for node in reversed(body)
                if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name == name
            ),
            None,
        )
        if found is None:
            return ""
        body = found.body
    if not isinstance(found, ast.ClassDef):
        return ""
    first = min([found.lineno, *(mark.lineno for mark in found.decorator_list)])
    lines = source.splitlines()[first - 1 : found.end_lineno]
    return textwrap.dedent("\n".join(lines))


def _outline(cls: type, wanted: Wanted) -> str:
    bases = ", ".join(class_name(base) for base in mro(cls)[1:2] if base is not object)
    lines = [f"class {class_name(cls).rpartition('.')[2]}({bases}):", *_doc(cls)]
    for name, member in vars(cls).items():
        if not name.startswith("_") and callable(member):
            lines.append(f"    def {one_line(name)}{_parameters(member, wanted)}: ...")
        elif not name.startswith("_"):
            lines.append(f"    {one_line(name)}: {type_name(member)}")
    return "\n".join(lines)


def _signature(value: Any, wanted: Wanted) -> str:
    name = one_line(str(getattr(value, "__name__", "")))
    return "\n".join([f"def {name}{_parameters(value, wanted)}:", *_doc(value), "    ..."])


def _parameters(value: Any, wanted: Wanted) -> str:
    # It holds the reprs of defaults, which are code of others.
    text = wanted.clock.text(lambda function: str(inspect.signature(function)), value, "signature")
    return one_line(text)[:300] if text.startswith("(") else "(...)"


def _doc(value: Any) -> list[str]:
    doc = value.__doc__
    first = inspect.cleandoc(doc).partition("\n\n")[0][:500] if type(doc) is str else ""
    return [f'    """{first}"""'] if first else []


# -- modules ------------------------------------------------------------------------------------


def _module(module: types.ModuleType, wanted: Wanted) -> Body:
    held = dict(vars(module))
    name, version = held.get("__name__", ""), held.get("__version__", "")
    facts = one_line(str(name))[:100] if type(name) is str else ""
    facts += f", version {one_line(version)[:40]}" if type(version) is str and version else ""
    doc = held.get("__doc__")
    first = inspect.cleandoc(doc).partition("\n\n")[0][:500] if type(doc) is str else ""
    public = sorted(key for key in held if not key.startswith("_"))
    names = wanted.cut(", ".join(public), 1_000)
    lines = [first, f"{len(public):,} public names: {names}" if public else ""]
    return Body(facts, _cut("\n".join(filter(None, lines)), wanted))


# -- exceptions ---------------------------------------------------------------------------------


def error(value: BaseException, wanted: Wanted) -> Body:
    """Return the view of an exception: what it says, and where it was raised."""
    lines = [line for one, why in _chain(value) for line in [*why, *_one(one, wanted)]]
    return Body("", _cut("\n".join(lines), wanted))


def _chain(error: BaseException) -> list[tuple[BaseException, list[str]]]:
    found: list[tuple[BaseException, list[str]]] = []
    seen: set[int] = set()
    current: BaseException | None = error
    why: list[str] = []
    while current is not None and id(current) not in seen and len(found) < _CHAIN:
        found.append((current, why))
        seen.add(id(current))
        if current.__cause__ is not None:
            current, why = current.__cause__, ["", "caused by:"]
        elif current.__suppress_context__:
            break
        else:
            current, why = current.__context__, ["", "raised while this was handled:"]
    return found


def _one(error: BaseException, wanted: Wanted) -> list[str]:
    said = wanted.ends(wanted.clock.text(str, error, "message"), 1_500)
    lines = [f"{type_name(error)}: {said}" if said else type_name(error)]
    notes = getattr(error, "__notes__", ()) or ()
    lines += [wanted.cut(wanted.clock.text(str, note, "note"), 300) for note in notes[:_MEMBERS]]
    if is_a(error, BaseExceptionGroup):
        members = BaseExceptionGroup.exceptions.__get__(error)
        for member in members[:_MEMBERS]:
            text = wanted.clock.text(str, member, "message")
            lines.append(f"- {type_name(member)}: {wanted.cut(one_line(text), 200)}")
        if len(members) > _MEMBERS:
            lines.append(f"- … {len(members) - _MEMBERS:,} more")
    return [*lines, *_traceback(error, wanted)]


def _traceback(error: BaseException, wanted: Wanted) -> list[str]:
    frames: list[tuple[types.CodeType, int]] = []
    trace = error.__traceback__
    while trace is not None:
        frames.append((trace.tb_frame.f_code, trace.tb_lineno))
        trace = trace.tb_next
    # What IPython does to run a cell is nothing to the person.
    cell = next((n for n, (code, _) in enumerate(frames) if _is_cell(code.co_filename)), 0)
    frames = frames[cell:]
    lines = ["traceback, the latest call last:"] if frames else []
    shown = frames if len(frames) <= _FRAMES else [*frames[:2], *frames[2 - _FRAMES :]]
    for number, (code, line) in enumerate(shown):
        if number == 2 and len(shown) < len(frames):
            lines.append(f"  … {len(frames) - len(shown):,} more frames")
        lines.append(f"  {_place(code.co_filename)}, line {line}, in {one_line(code.co_name)}")
        if source := linecache.getline(code.co_filename, line).strip():
            lines.append(f"    {wanted.cut(source, 200)}")
    return lines


def _is_cell(filename: str) -> bool:
    """Whether this is a cell of a notebook: ipykernel and IPython name them so."""
    return "ipykernel_" in filename or filename.startswith("<ipython-input")


def _place(filename: str) -> str:
    """Return a file in few words, and without a process's id or a person's folders."""
    if _is_cell(filename):
        return "a cell"
    return one_line("/".join(PurePath(filename).parts[-2:])) if filename[:1] != "<" else filename
