"""The benchmarks' table: how a row is written, and that the page of the docs has today's rows."""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))

from benchmarks import page, peers, plots, table
from benchmarks.__main__ import GROUPS
from benchmarks.bench import Line
from benchmarks.table import Row


def rows_of_page(name: str) -> list[str]:
    """The names of the rows that stand in the page for a group."""
    text = page.PAGE.read_text()
    [part] = re.findall(rf"<!-- measured: {name} -->\n(.*?)<!-- end -->", text, re.S)
    return re.findall(r"^\| ([^|]*?) +\|", part, re.M)[1:]


def patterns(module: object) -> list[re.Pattern[str]]:
    """Every text of a module, with anything in the place of what is put in."""
    found = []
    for node in ast.walk(ast.parse(Path(module.__file__).read_text())):
        if isinstance(node, ast.JoinedStr):
            parts = (
                re.escape(part.value) if isinstance(part, ast.Constant) else ".+"
                for part in node.values
            )
            found.append(re.compile("".join(parts)))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            found.append(re.compile(re.escape(node.value)))
    return [known for known in found if known.pattern != ".+"]


@pytest.mark.parametrize("name", GROUPS)
def test_the_page_has_the_rows_of_each_group(name):
    names = rows_of_page(name)
    assert names
    known = patterns(GROUPS[name])
    gone = [row for row in names if not any(text.fullmatch(row) for text in known)]
    assert not gone, "run `make bench ARGS=--write`"


def test_the_page_compares_peers_in_everything_that_is_measured():
    assert rows_of_page("peers") == [measure.name for measure in peers.MEASURES]
    text = page.PAGE.read_text()
    for peer in peers.PEERS:
        assert f"{peer.name} {peer.version}" in text
        assert f"{peer.name}=={peer.version}" in peer.requires


def test_the_page_shows_every_plot_and_says_what_is_on_it():
    text = page.PAGE.read_text()
    for name in plots.AXES:
        assert (plots.IMAGES / f"performance-{name}.svg").exists()
        assert re.search(rf"!\[.{{40,}}\]\(images/performance-{name}\.svg\)", text)


def test_numbers_have_three_digits_or_so():
    shown = [table.seconds(value) for value in (0.01234, 0.543, 2.6, 31.42)]
    assert shown == ["12.3 ms", "543 ms", "2.60 s", "31.4 s"]
    assert [table.difference(value) for value in (0.002, -0.3)] == ["+2.0 ms", "-300 ms"]
    assert [table.times(value) for value in (0.0123, 1.264, 132.4)] == [
        "x 0.012",
        "x 1.26",
        "x 132",
    ]
    assert [table.mb(size) for size in (2_440_000, 98_400_000)] == ["2.4 MB", "98 MB"]


@pytest.mark.parametrize(
    ("make", "limit", "figure", "target"),
    [
        (table.added, 0.1, "+100 ms", "+100 ms"),
        (table.ratio, 1.5, "x 1.50", "x 1.50"),
        (table.within, 0.3, "x 1.50", "300 ms"),
    ],
)
def test_a_row_compares_medians_and_knows_its_target(make, limit, figure, target):
    ours, baseline = [0.1, 9.0, 0.3], [0.2, 0.2, 7.0]
    row = make("a turn", ours, baseline, "bare SDK", limit + 1e-9)
    assert row == Row("a turn", "300 ms", "200 ms", "bare SDK", figure, target, met=True)
    assert not make("a turn", ours, baseline, "bare SDK", limit - 0.01).met


def test_a_table_says_what_was_missed():
    rows = [
        Row("a turn", "30 ms", "20 ms", "bare SDK", "x 1.50", "x 1.30", met=False),
        Row("loading | all", "1 ms", "0 ms", "bare IPython", "+1 ms", "+9 ms"),
    ]
    text = table.as_text(table.listed(rows)).splitlines()
    assert [line.index("against") for line in text[:1]] == [
        line.index("bare") for line in text[1:2]
    ]
    assert text[1].endswith("x 1.30, missed")
    on_page = table.as_markdown(table.listed(rows))
    assert "x\N{NO-BREAK SPACE}1.50" in on_page
    assert on_page.replace("\N{NO-BREAK SPACE}", " ").splitlines() == [
        "| what | ours | baseline | against | figure | target |",
        "|---|---|---|---|---|---|",
        "| a turn | 30 ms | 20 ms | bare SDK | x 1.50 | x 1.30, missed |",
        "| loading \\| all | 1 ms | 0 ms | bare IPython | +1 ms | +9 ms |",
    ]


def test_peers_stand_side_by_side_and_one_that_did_not_run_says_why():
    ours = dict.fromkeys((measure.key for measure in peers.MEASURES), 2.0)
    one = peers.compared(ours, dict.fromkeys(ours, 5.0), "one 1.0")
    other = peers.compared(ours, "not run: no such version", "other 2.0")
    head, load, *rest = table.side_by_side([*one, *other])
    assert head == ["what", "ours", "one 1.0", "other 2.0"]
    name, of_ours, of_one, of_other = load
    assert name == "%load_ext over bare IPython"
    assert of_ours == "+2.00 s (+100 ms: missed)"
    assert of_one == "+5.00 s (x 2.50)"
    assert of_other == "not run: no such version"
    assert len(rest) == len(peers.MEASURES) - 1


def test_a_group_is_written_in_its_place_and_nowhere_else():
    empty = "<!-- measured: turns -->\n<!-- end -->\n"
    before = f"# A\n\n<!-- measured: load -->\n\nold\n\n<!-- end -->\n\n{empty}"
    after = page.fill(before, "load", r"| \| |")
    assert after == before.replace("old", r"| \| |")
    assert page.fill(after, "load", "old") == before
    with pytest.raises(ValueError, match="no place for memory"):
        page.fill(before, "memory", "text")


def test_equal_figures_make_equal_plots(tmp_path, monkeypatch):
    monkeypatch.setattr(plots, "IMAGES", tmp_path)
    lines = [
        Line("ours", [(100, 0.1), (10_000, 0.2)], is_ours=True),
        Line("theirs", [(100, 0.1), (10_000, 9.0)], is_ours=False),
    ]
    drawn = []
    for _ in range(2):
        plots.draw("long", lines)
        drawn.append((tmp_path / "performance-long.svg").read_text())
    assert drawn[0] == drawn[1]
    assert ">theirs</text>" in drawn[0]
    assert ">10,000</text>" in drawn[0]
    assert "#ffffff" not in drawn[0]
