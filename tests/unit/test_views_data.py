"""Views of tables, arrays and pictures, on the real packages: short, quick, without a copy."""

from __future__ import annotations

import io
import tracemalloc
import warnings
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import plotly.graph_objects as go
import polars as pl
import pytest
import xarray as xr
from PIL import Image

from copilot_jupyter.conversation.views import view
from copilot_jupyter.errors import BadInputError

mpl.use("agg")


def shown(value: object, form: str = "") -> str:
    found = view(value, "it", form)
    assert "cannot be shown" not in found.text
    if not form:
        assert len(found.text.encode()) + len(found.heading.encode()) <= 2_000
    return found.text


def heading(value: object) -> str:
    return view(value, "it", "").heading


def words(text: str, line: str) -> list[str]:
    return next(one for one in text.splitlines() if one.startswith(line)).split()


# -- pandas -----------------------------------------------------------------------------------


def test_a_frame():
    days = pd.date_range("2020-01-01", periods=3)
    frame = pd.DataFrame({"size": [1.0, 3.0, None], "day": days, "name": ["a", "b", None]})
    assert heading(frame) == "it: pandas.DataFrame, 3 rows x 3 columns"
    text = shown(frame)
    assert "index: RangeIndex\ncolumns, with missing and statistics of all rows:\n" in text
    assert words(text, "size") == ["size", "float64", "1", "2", "1.414", "1", "3"]
    assert words(text, "day")[2:] == ["0", "2020-01-01", "2020-01-03"]
    assert words(text, "0 ") == ["0", "1", "2020-01-01", "a"]
    assert words(text, "2 ")[1] == "nan"


def test_formats_of_a_frame():
    frame = pd.DataFrame({f"c{n}": range(50) for n in range(30)})
    assert "first" not in shown(frame, "schema")
    assert "mean" not in shown(frame, "schema")
    assert words(shown(frame, "schema"), "c29") == ["c29", "int64", "0"]
    assert "first 20 rows" in shown(frame, "head=20")
    assert "first 50 rows" in shown(frame, "head=1000")
    assert "first" not in shown(frame, "head=0")
    with pytest.raises(BadInputError):
        view(frame["c1"], "it", "schema")


PAIRS = pd.MultiIndex.from_tuples([("a", 1), ("b", 2)], names=["x", "y"])
HELD = pd.DataFrame()
HARD = {
    "empty": pd.DataFrame(),
    "no rows": pd.DataFrame({"a": [], "b": pd.Series([], dtype=float)}),
    "no columns": pd.DataFrame(index=range(5)),
    "same names": pd.DataFrame([[1, 2], [3, 4]], columns=["a", "a"]),
    "wide": pd.DataFrame(np.zeros((3, 10_000))),
    "long texts": pd.DataFrame({"t": ["x" * 1_000_000] * 3, "u" * 5000: [1, 2, 3]}),
    "rows": pd.DataFrame({"v": [1, 2]}, index=PAIRS),
    "columns": pd.DataFrame([[1, 2]], columns=PAIRS),
    "objects": pd.DataFrame({"o": [{"k": [1] * 10**6}, [1], object()], "f": [HELD, len, None]}),
    "types": pd.DataFrame(
        {
            "cat": pd.Categorical(["a", None]),
            "int": pd.array([1, None], dtype="Int64"),
            "bool": pd.array([True, None], dtype="boolean"),
            "text": pd.array(["x", None], dtype="string"),
            "zone": pd.to_datetime(["2020-01-01", None]).tz_localize("UTC"),
            "delta": pd.to_timedelta([1, None], unit="D"),
            "period": pd.PeriodIndex(["2020-01", "2020-02"], freq="M"),
            "interval": pd.interval_range(0, 2),
            "complex": [1j, 2j],
            "sparse": pd.arrays.SparseArray([0.0, 1.0]),
            "inf": [np.inf, -np.inf],
            "nothing": [np.nan, np.nan],
        }
    ),
    "breaks": pd.DataFrame({"a\nb": ["c\nd\t\x1b", "```"]}),
    "many objects": pd.DataFrame({f"c{n}": ["x"] * 50_000 for n in range(25)}, dtype=object),
}  # fmt: skip


@pytest.mark.parametrize("name", HARD)
def test_hard_frames(name):
    frame = HARD[name]
    assert "x" in heading(frame)
    assert "DataFrame" in heading(frame)
    text = shown(frame)
    # Each has a view of its own kind: nothing fell back to the repr.
    assert not frame.size or "first " in text
    shown(frame, "schema")
    shown(frame, "head=3")
    for number in range(min(frame.shape[1], 15)):
        assert "pandas.Series, " in heading(frame.iloc[:, number])
        assert "columns, with missing" in shown(frame.iloc[:, number])
    shown(frame.index)
    shown(frame.columns)


def test_many_columns_are_counted():
    text = shown(HARD["wide"])
    assert "more columns: 2" in text
    assert "a\\nb" in shown(HARD["breaks"])
    assert words(shown(HARD["same names"]), "1 ") == ["1", "3", "4"]
    assert "a, 1" in shown(HARD["rows"])


def test_cells_say_what_they_hold():
    held = pd.DataFrame(
        {"held": [HELD, np.zeros((9, 9)), [1, 2, 3], pd.Period("2020-01"), pd.Interval(0.25, 10.5)]}
    )
    assert [line.split(None, 1)[1] for line in shown(held).splitlines()[-5:]] == [
        "<pandas.DataFrame, 0 x 0>",
        "<numpy.ndarray, 9 x 9>",
        "[1, 2, 3]",
        "2020-01",
        "(0.25, 10.5]",
    ]


def test_of_many_columns_fewer_rows_are_read():
    assert "of the first 40,000 rows" in shown(HARD["many objects"])
    assert "of all rows" in shown(HARD["many objects"].iloc[:, :20])
    many = pl.DataFrame({f"c{n}": range(50_000) for n in range(25)})
    assert "of the first 40,000 rows" in shown(many)


def test_a_series_and_an_index():
    series = pd.Series([1, 2, None], name="size")
    assert heading(series) == "it: pandas.Series, 3 values, named size"
    assert "float64" in shown(series)
    index = pd.date_range("2020-01-01", periods=100, name="day")
    assert heading(index).startswith("it: pandas.DatetimeIndex, 100 values, datetime64")
    assert "… 90 more" in shown(index)
    assert view(pd.Timestamp("2020-01-01 10:00"), "it", "").text == "2020-01-01 10:00:00"


def test_a_subclass_of_a_frame_that_lies():
    class Frame(pd.DataFrame):
        def __len__(self):
            raise RuntimeError

        def __getattr__(self, name):
            raise RuntimeError

        def __repr__(self):
            raise RuntimeError

    assert "first 2 rows" in shown(Frame({"a": [1, 2]}))


def test_a_large_frame_is_sampled_and_not_copied():
    frame = pd.DataFrame(np.zeros((2_000_000, 8)), columns=list("abcdefgh"))
    frame.iloc[1_500_000:, 0] = np.nan
    shown(frame)  # what is imported and cached at first
    tracemalloc.start()
    try:
        text = shown(frame)
        shown(frame, "head=50")
        shown(frame["a"])
        shown(frame.to_numpy())
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # 128 MB, of which 100,000 numbers at a time are looked at.
    assert peak < 5_000_000
    assert "of the first 100,000 rows" in text
    assert words(text, "a ")[2] == "0"


# -- polars -----------------------------------------------------------------------------------


def test_polars():
    frame = pl.DataFrame(
        {
            "size": [1, 3, None],
            "name": ["a", "b\n", "c" * 10_000],
            "list": [[1], [2, 3], None],
            "cat": pl.Series(["k1", "k2", "k1"], dtype=pl.Enum([f"k{n}" for n in range(500)])),
            "held": pl.Series([object(), 1, None], dtype=pl.Object),
            "day": pd.date_range("2020-01-01", periods=3).to_numpy(),
            "struct": [{"a": 1}, {"a": 2}, None],
        }
    )  # fmt: skip
    assert heading(frame) == "it: polars.DataFrame, 3 rows x 7 columns"
    text = shown(frame)
    assert words(text, "size")[:4] == ["size", "Int64", "1", "2"]
    assert words(text, "3 ")[:4] == ["3", r"b\n", "[2,", "3]"]
    assert "Enum" in shown(frame, "schema")
    assert "first 1 row" in shown(frame, "head=1")
    assert heading(frame["size"]) == "it: polars.Series, 3 values, named size"
    for empty in (pl.DataFrame(), pl.DataFrame({"a": []}), pl.Series([], dtype=pl.Null)):
        shown(empty)
    shown(pl.DataFrame({f"c{n}": [n] for n in range(3000)}))


def test_a_lazy_frame_is_not_collected():
    def read(frame: Any) -> Any:
        raise AssertionError

    lazy = pl.LazyFrame({"a": [1]}).filter(pl.col("a") > 0).map_batches(read)
    assert heading(lazy) == "it: polars.LazyFrame, not collected"
    assert "FILTER" in shown(lazy)


# -- numpy ------------------------------------------------------------------------------------


def test_an_array():
    array = np.arange(12.0).reshape(3, 4)
    assert heading(array) == "it: numpy.ndarray, shape (3, 4), float64"
    assert shown(array).startswith("min 0, max 11, mean 5.5\n[[ 0.,")
    assert "..." in shown(np.zeros((500, 500)))
    assert "of the first 100,000 values" in shown(np.zeros((500, 500)))
    assert "first 1:\n[[0., 1." in shown(array, "head=1")
    nan = np.array([1.0, np.nan])
    assert shown(nan).startswith("min 1, max 1, mean 1, nan 1\n")


HARD_ARRAYS = {
    "0-d": np.array(5),
    "empty": np.zeros((0, 3)),
    "20 dimensions": np.zeros((2,) * 20),
    "structured": np.zeros(5, dtype=[("a", "i4"), ("b", "U10")]),
    "one structured": np.zeros(1, dtype=[("a", "i4"), ("b", "O")])[0],
    "masked": np.ma.array([1, 2, 3], mask=[0, 1, 0]),
    "all masked": np.ma.masked_all((3, 3)),
    "objects": np.array([{"a": 1}, [1] * 10**6, None], dtype=object),
    "texts": np.array(["x" * 100_000] * 3),
    "dates": np.array(["2020-01-01", "NaT"], dtype="datetime64[D]"),
    "bools": np.array([True, False]),
    "complex": np.array([1j]),
    "strided": np.zeros((1000, 1000))[::-3, ::7],
    "infinite": np.array([np.inf, -np.inf]),
    "matrix": np.eye(3, dtype="float16"),
    "bytes": np.array([b"x\x00y"]),
    "record": np.rec.array([(1, 2.0)], dtype=[("a", int), ("b", float)]),
    "all nan": np.full(4, np.nan),
    "masked structured": np.ma.array([(1, 2.0)], dtype=[("a", int), ("b", float)], mask=[(0, 1)]),
}


@pytest.mark.parametrize("name", HARD_ARRAYS)
def test_hard_arrays(name):
    text = shown(HARD_ARRAYS[name])
    assert text
    if HARD_ARRAYS[name].ndim:
        assert "shape (" in heading(HARD_ARRAYS[name])
        shown(HARD_ARRAYS[name], "head=2")


def test_a_masked_array_counts_what_is_masked():
    assert shown(HARD_ARRAYS["masked"]).startswith("masked 1, min 1, max 3, mean 2\n[1 -- 3]")


def test_long_texts_are_cut_one_by_one():
    assert shown(HARD_ARRAYS["texts"]).count("(100,000 characters)") == 3
    array = np.array(["x" * 10_000] * 20_000)
    tracemalloc.start()
    try:
        shown(array)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 20_000_000  # of 800 MB


@pytest.mark.skipif(not hasattr(np.dtypes, "StringDType"), reason="numpy 1 has none")
def test_texts_of_variable_width():
    array = np.array(["a", "b" * 100_000], dtype=np.dtypes.StringDType())
    assert heading(array) == "it: numpy.ndarray, shape (2), StringDType()"
    assert "(100,000 characters)" in shown(array)


def test_print_options_change_no_view():
    array = np.array([1e-9, 123.456789, -1.0])
    masked = np.ma.array([0.123456789, 2], mask=[0, 1])
    before = shown(array), shown(masked)
    with np.printoptions(precision=2, suppress=True, formatter={"float": str}, sign="+"):
        assert (shown(array), shown(masked)) == before


def test_a_subclass_of_an_array_that_lies():
    class Array(np.ndarray):
        def __len__(self):
            raise RuntimeError

        def __getitem__(self, key):
            raise RuntimeError

        def view(self, *args):
            raise RuntimeError

        def min(self, *args, **kwargs):
            raise RuntimeError

        @property
        def shape(self):
            raise RuntimeError

    assert shown(np.arange(3).view(Array)).startswith("min 0, max 2")


# -- xarray, torch ----------------------------------------------------------------------------


def test_xarray():
    data = xr.DataArray(np.arange(6.0).reshape(2, 3), dims=("x", "y"), name="heat")
    assert heading(data) == "it: xarray.DataArray, (x: 2, y: 3)"
    assert shown(data).startswith("min 0, max 5, mean 2.5\n<xarray.DataArray 'heat'")
    dataset = xr.Dataset({"heat": data, "cold": -data})
    assert heading(dataset) == "it: xarray.Dataset, (x: 2, y: 3)"
    assert "heat" in shown(dataset)


def test_xarray_loads_nothing():
    class Lazy(xr.backends.BackendArray):
        shape, dtype = (1000, 1000), np.dtype("float64")

        def __getitem__(self, key):
            raise AssertionError

    lazy = xr.core.indexing.LazilyIndexedArray(Lazy())
    data = xr.DataArray(xr.Variable(("x", "y"), lazy))
    assert "[1000000 values with dtype=float64]" in shown(data)
    assert "min" not in shown(data)


class Tensor:
    """A look-alike of ``torch.Tensor``, made by hand on numpy: torch itself weighs 800 MB."""

    def __init__(self, array: Any, device: str = "cuda:0", *, home: bool = False) -> None:
        self._array, self.device, self._home = np.asarray(array), device, home
        self.shape, self.dtype = self._array.shape, f"torch.{self._array.dtype}"
        self.layout, self.requires_grad = "torch.strided", True

    def _on(self, array: Any) -> Tensor:
        return Tensor(array, self.device, home=self._home)

    def detach(self) -> Tensor:
        return self

    def is_contiguous(self) -> bool:
        return bool(self._array.flags.c_contiguous)

    def view(self, size: int) -> Tensor:
        return self._on(self._array.reshape(size))

    def __getitem__(self, key: Any) -> Tensor:
        return self._on(self._array[key._array if isinstance(key, Tensor) else key])

    def __invert__(self) -> Tensor:
        return self._on(~self._array)

    def isnan(self) -> Tensor:
        return self._on(np.isnan(self._array))

    def sum(self) -> Tensor:
        return self._on(self._array.sum())

    def numel(self) -> int:
        return int(self._array.size)

    def narrow(self, axis: int, start: int, length: int) -> Tensor:
        return self._on(np.take(self._array, range(start, start + length), axis))

    def min(self) -> Tensor:
        return self._on(self._array.min())

    def max(self) -> Tensor:
        return self._on(self._array.max())

    def mean(self) -> Tensor:
        return self._on(self._array.mean())

    def double(self) -> Tensor:
        return self

    def item(self) -> Any:
        return self._array.item()

    def cpu(self) -> Tensor:
        assert self._array.size <= 1000, "a whole tensor was moved from the GPU"
        return Tensor(self._array, "cpu", home=True)

    def tolist(self) -> Any:
        assert self._home
        return self._array.tolist()


Tensor.__module__, Tensor.__qualname__ = "torch", "Tensor"


def test_a_look_alike_of_a_tensor():
    tensor = Tensor(np.arange(1e6).reshape(1000, 1000))
    assert heading(tensor) == (
        "it: torch.Tensor, shape (1_000, 1_000), float64, on cuda:0, requires grad"
    )
    text = shown(tensor)
    assert text.startswith("min 0, max 99999, mean 49999.5 (of the first 100,000 values)\n")
    assert "its first corner, (8, 8):\n" in text
    assert "its first corner" not in shown(Tensor([[1.0, 2.0]]))
    assert shown(Tensor(np.float64(2))).endswith("\n2.0")
    assert shown(Tensor(np.zeros((0, 2)))) == "no values"
    shown(Tensor(np.zeros((2,) * 15)))
    assert shown(Tensor([1.0, np.nan, 3.0])).startswith("min 1, max 3, mean 2, nan 1\n")
    assert shown(Tensor([np.nan])).startswith("nan 1\n")


# -- pictures ---------------------------------------------------------------------------------


@pytest.fixture
def figure():
    made, axes = plt.subplots(1, 2, figsize=(20, 5))
    axes[0].plot([1, 2], label="first")
    axes[0].plot([2, 1])
    axes[0].set(title="Heat", xlabel="day", ylabel="°C")
    made.suptitle("All")
    yield made
    plt.close(made)


def test_a_figure_of_matplotlib(figure):
    found = view(figure, "it", "")
    assert found.heading == "it: matplotlib.Figure, 20 x 5 inches, 2 axes"
    assert found.text == (
        "title: All\naxes 1: title 'Heat', x 'day', y '°C', 2 lines\n  lines: first\naxes 2: empty"
    )
    with Image.open(io.BytesIO(found.png)) as picture:
        assert picture.format == "PNG"
        assert max(picture.size) <= 1024
    assert view(figure, "it", "").pixels == found.pixels
    figure.axes[1].plot([1])
    assert view(figure, "it", "").pixels != found.pixels


def test_a_figure_that_cannot_be_drawn_says_so(figure):
    figure.axes[1].set_title(r"$\no{such$")
    found = view(figure, "it", "")
    assert found.heading == "it: matplotlib.Figure, 20 x 5 inches, 2 axes"
    assert found.text.startswith("<its picture cannot be drawn: ValueError>\ntitle: All\naxes 1: ")
    assert not found.png


def test_one_patch_is_one(figure):
    figure.axes[1].bar([1], [1])
    assert view(figure, "it", "").text.endswith("axes 2: 1 patch")
    figure.axes[1].bar([2], [1])
    assert view(figure, "it", "").text.endswith("axes 2: 2 patches")


def test_axes_come_with_their_figure(figure):
    found = view(figure.axes[0], "it", "")
    assert found.heading.startswith("it: matplotlib.Axes, axes 1 of a figure of 20 x 5 inches")
    assert found.text.startswith("axes 1: title 'Heat'")
    assert found.png
    inside = figure.subfigures(1, 2)[0].subplots()
    assert view(inside, "it", "").png


def test_a_figure_of_plotly():
    figure = go.Figure([go.Scatter(x=[1, 2], y=[3, 4], name="one"), go.Bar(y=list(range(9)))])
    figure.update_layout(title="Sales", xaxis_title="day")
    assert heading(figure) == "it: plotly.Figure, 2 traces"
    assert shown(figure) == (
        "title: Sales\nxaxis: day\ntrace 1: scatter 'one', 2 points\ntrace 2: bar, 9 points"
    )
    assert not view(figure, "it", "").png
    shown(go.Figure())
    assert shown(go.Figure(go.Bar(y=[1]))) == "trace 1: bar, 1 point"


@pytest.mark.parametrize(
    "mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I", "F", "I;16", "LAB"]
)
def test_pictures(mode):
    picture = Image.new(mode, (1500, 30))
    picture.info["exif"] = b"where I live"
    found = view(picture, "it", "")
    assert found.heading == f"it: PIL.Image, 1,500 x 30 pixels, {mode}"
    assert found.text == "sent as 1024 x 20 pixels"
    assert b"where I live" not in found.png
    assert picture.size == (1500, 30)


def test_a_picture_that_cannot_be_read(tmp_path):
    path = tmp_path / "broken.png"
    Image.new("RGB", (50, 50), "red").save(path)
    path.write_bytes(path.read_bytes()[:60])
    with Image.open(path) as broken:
        found = view(broken, "it", "")
    assert not found.png
    assert "PngImageFile" in found.text


def test_views_warn_of_nothing():
    """What a library says about a hard value is nothing to the person who asked a question."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for value in (*HARD.values(), *HARD_ARRAYS.values()):
            shown(value)
