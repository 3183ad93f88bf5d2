"""Views of tables: pandas and polars.

Nothing here reads more than `_SAMPLE` rows or `_CELLS` cells, and nothing copies a table:
rows are sliced, which is a view of the same memory, and columns are taken by position, since
two may share a name.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from copilot_jupyter.conversation.words import counted

from .parts import Body, Wanted, printable, size
from .printer import Printer

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

#: Rows that are read for what is missing and for statistics, and cells of all columns together:
#: to look through 100,000 objects takes 3 ms.
_SAMPLE = 100_000
_CELLS = 1_000_000
_ROWS = 5
#: Columns that are described if nobody asked for the schema.
_COLUMNS = 25
_COLUMNS_ASKED = 400
_NAME, _CELL = 40, 28
#: No median: to find it takes twenty times as long as all of these.
_STATISTICS = ("mean", "std", "min", "max")
_NONE: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Column:
    name: str
    dtype: str
    missing: int
    statistics: tuple[str, ...]


class _Source:
    """A table, whatever library it is of.

    Parameters
    ----------
    wanted : Wanted
    table : Any
        A frame or a series.
    """

    #: A line about the index.
    index = ""
    has_labels = False

    def __init__(self, wanted: Wanted, table: Any) -> None:
        self.wanted, self.table, self.printer = wanted, table, Printer(wanted)

    def name(self, name: Any) -> str:
        """Return the name of a column as text."""
        return self.printer.cell(name, _NAME)

    def cell(self, value: Any) -> str:
        """Return a value as text."""
        return self.printer.cell(value, _CELL)

    def names(self) -> list[str]:
        """Return the names of the columns; of very many the first."""
        return [self.name(name) for name in self.table.columns[:2000]]

    def column(self, number: int, rows: int) -> _Column:
        """Return what the first rows of a column tell."""
        raise NotImplementedError

    def labels(self, count: int) -> list[Any]:
        """Return the labels of the first rows."""
        raise NotImplementedError

    def cells(self, number: int, count: int) -> list[Any]:
        """Return the first values of a column."""
        raise NotImplementedError


# -- pandas -----------------------------------------------------------------------------------


class _Pandas(_Source):
    has_labels = True

    def __init__(self, wanted: Wanted, table: Any) -> None:
        super().__init__(wanted, table)
        names = _index_names(self, table.index)
        self.index = f"index: {type(table.index).__name__}" + (f" ({names})" if names else "")

    def column(self, number: int, rows: int) -> _Column:
        name = self.table.columns[number]
        return self.of_series(name, self.table.iloc[:rows, number])

    def of_series(self, name: Any, column: Any) -> _Column:
        """Return what is known about the begin of a series."""
        dtype, missing = column.dtype, int(column.isna().sum())
        kind, found = getattr(dtype, "kind", "O"), _NONE
        if kind in "iuf" and not self.wanted.schema:
            numpy: Any = sys.modules["numpy"]
            found = _statistics(column.to_numpy("float64", na_value=numpy.nan))
        elif kind in "mM" and not self.wanted.schema and missing < column.shape[0]:
            found = ("", "", self.cell(column.min()), self.cell(column.max()))
        return _Column(self.name(name), self.cell(str(dtype)), missing, found)

    def labels(self, count: int) -> list[Any]:
        return list(self.table.index[:count])

    def cells(self, number: int, count: int) -> list[Any]:
        return list(self.table.iloc[:count, number])


class _PandasSeries(_Pandas):
    def names(self) -> list[str]:
        return ["" if self.table.name is None else self.name(self.table.name)]

    def column(self, number: int, rows: int) -> _Column:
        del number  # there is one
        return self.of_series(self.names()[0], self.table.iloc[:rows])

    def cells(self, number: int, count: int) -> list[Any]:
        del number
        return list(self.table.iloc[:count])


def pandas_frame(frame: Any, wanted: Wanted) -> Body:
    """Return the view of a ``pandas.DataFrame``."""
    return _frame(_Pandas(wanted, frame))


def pandas_series(series: Any, wanted: Wanted) -> Body:
    """Return the view of a ``pandas.Series``."""
    return _series(_PandasSeries(wanted, series))


def pandas_index(index: Any, wanted: Wanted) -> Body:
    """Return the view of a ``pandas.Index``."""
    (rows,) = index.shape
    count = 2 * _ROWS if wanted.head is None else wanted.head
    names = _index_names(_Source(wanted, index), index)
    facts = f"{rows:,} values, {index.dtype}" + (f", named {names}" if names else "")
    text = Printer(wanted).show(list(index[: min(count, wanted.limit)]), wanted.limit - 300)
    return Body(facts, printable(text + (f"\n… {rows - count:,} more" if rows > count else "")))


def _index_names(source: _Source, index: Any) -> str:
    return ", ".join(source.name(name) for name in index.names if name is not None)


def _statistics(numbers: Any) -> tuple[str, ...]:
    """Return what ``describe`` would say about an array of floats."""
    numpy: Any = sys.modules["numpy"]
    missing = numpy.isnan(numbers)
    known = numbers[~missing] if missing.any() else numbers
    if not known.size:
        return ()
    with numpy.errstate(all="ignore"):
        # Infinities have no mean, and that is no reason to warn.
        deviation = known.std(ddof=1) if known.size > 1 else numpy.nan
        found = (known.mean(), deviation, known.min(), known.max())
    return tuple(f"{float(number):.4g}" for number in found)


# -- polars -------------------------------------------------------------------------------------


class _Polars(_Source):
    def column(self, number: int, rows: int) -> _Column:
        return self.of_series(self.table.to_series(number).slice(0, rows))

    def of_series(self, column: Any) -> _Column:
        """Return what is known about the begin of a series."""
        dtype, missing, found = column.dtype, column.null_count(), _NONE
        if self.wanted.schema or missing == column.len():
            pass
        elif dtype.is_numeric():
            numbers = (column.mean(), column.std(), column.min(), column.max())
            found = tuple("" if n is None else f"{float(n):.4g}" for n in numbers)
        elif dtype.is_temporal():
            found = ("", "", self.cell(column.min()), self.cell(column.max()))
        # One of an Enum names each of its categories.
        return _Column(self.name(column.name), self.cell(str(dtype)), missing, found)

    def cells(self, number: int, count: int) -> list[Any]:
        return list(self.table.to_series(number).slice(0, count).to_list())


class _PolarsSeries(_Polars):
    def names(self) -> list[str]:
        return [self.name(self.table.name)]

    def column(self, number: int, rows: int) -> _Column:
        del number  # there is one
        return self.of_series(self.table.slice(0, rows))

    def cells(self, number: int, count: int) -> list[Any]:
        del number
        return list(self.table.slice(0, count).to_list())


def polars_frame(frame: Any, wanted: Wanted) -> Body:
    """Return the view of a ``polars.DataFrame``."""
    return _frame(_Polars(wanted, frame))


def polars_series(series: Any, wanted: Wanted) -> Body:
    """Return the view of a ``polars.Series``."""
    return _series(_PolarsSeries(wanted, series))


def polars_lazy(frame: Any, wanted: Wanted) -> Body:
    """Return the view of a ``polars.LazyFrame``: its plan, which is not run."""
    plan = wanted.clock.text(lambda lazy: lazy.explain(optimized=False), frame, "plan")
    return Body("not collected", printable(wanted.ends(plan, wanted.limit - 200)))


# -- what both look like --------------------------------------------------------------------------


def _frame(source: _Source) -> Body:
    rows, width = source.table.shape
    facts = f"{counted(rows, 'row')} x {counted(width, 'column')}"
    return Body(facts, printable("\n".join(_parts(source, rows, width))))


def _series(source: _Source) -> Body:
    (rows,) = source.table.shape
    name = source.names()[0]
    facts = counted(rows, "value") + (f", named {name}" if name else "")
    return Body(facts, printable("\n".join(_parts(source, rows, 1))))


def _parts(source: _Source, rows: int, width: int) -> list[str]:
    """Return the lines of a table: its columns, then its first rows."""
    wanted = source.wanted
    room = wanted.limit - 250
    names = source.names()
    count = min(width, _COLUMNS_ASKED if wanted.schema else _COLUMNS)
    sample = min(rows, _SAMPLE, _CELLS // max(count, 1))
    columns = [source.column(number, sample) for number in range(count)]
    known = "of all rows" if sample == rows else f"of the first {sample:,} rows"
    described = _described(columns, known, room if wanted.schema else room * 13 // 20)
    parts = ([source.index] if source.index else []) + described
    shown = max(len(described) - 2, 0)
    if width > shown:
        more = list(_within(names[shown:], room // 8))
        rest = ", …" if len(more) < width - shown else ""
        parts.append(f"… {counted(width - shown, 'more column')}: {', '.join(more)}{rest}")
    if not wanted.schema and width:
        count = min(rows, _ROWS if wanted.head is None else wanted.head)
        room -= size("\n".join(parts))
        parts += _first_rows(source, names[: len(columns)], count, room)
    return parts


def _described(columns: Sequence[_Column], known: str, room: int) -> list[str]:
    """Return a title, a line of headings, and a line for each column that there is room for."""
    if not columns:
        return []
    with_statistics = any(column.statistics for column in columns)
    what = "missing and statistics" if with_statistics else "missing"
    heads = ["column", "dtype", "missing", *(_STATISTICS if with_statistics else ())]
    grid = [
        [c.name, c.dtype, f"{c.missing:,}", *(c.statistics or ("",) * len(_STATISTICS))]
        for c in columns
    ]
    lines = _aligned([heads, *(line[: len(heads)] for line in grid)])
    return [f"columns, with {what} {known}:", *_within(lines, room)]


def _first_rows(source: _Source, names: Sequence[str], count: int, room: int) -> list[str]:
    """Return the first rows, with as many columns and rows as there is room for."""
    # Nobody needs rows of which not even a byte fits.
    count = min(count, room)
    if count <= 0:
        return []
    grid: list[list[str]] = []
    if source.has_labels:
        grid.append(["", *map(source.cell, source.labels(count))])
    wide = max(room // (min(count, _ROWS) + 1), 60)
    shown = 0
    for number, name in enumerate(names):
        column = [name, *map(source.cell, source.cells(number, count))]
        wide -= max(map(len, column)) + 2
        if wide < 0 and shown:
            break
        grid.append(column)
        shown += 1
    lines = list(_within(_aligned(list(zip(*grid, strict=True))), room - 60))
    note = f", {shown} of the columns" if shown < len(names) else ""
    return [f"first {counted(len(lines) - 1, 'row')}{note}:", *lines] if len(lines) > 1 else []


def _within(texts: Iterable[str], room: int) -> Iterator[str]:
    """Yield texts, such as lines, as long as they fit into a number of bytes."""
    for text in texts:
        room -= size(text) + 2
        if room < 0:
            return
        yield text


def _aligned(grid: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*grid, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in grid
    ]
