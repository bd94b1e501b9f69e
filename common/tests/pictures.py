"""What every picture of every task has to be: named, readable, nothing over anything else."""

from itertools import combinations
from typing import Any

from matplotlib.figure import Figure
from matplotlib.text import Text

NOTE = "toy data, not comparable"
SMALLEST = 7.0  # points


def texts(figure: Figure) -> list[Text]:
    """All that is written and seen, as laid out."""
    figure.draw_without_rendering()
    return [text for text in figure.findobj(Text) if text.get_text().strip() and text.get_visible()]


def title_of(figure: Figure) -> str:
    """The title, which may be the legend's."""
    above = [legend.get_title().get_text() for legend in figure.legends]
    return " ".join((above[0] if above else figure.get_suptitle()).split())


def check_readable(figure: Figure, *what: str, note: str = NOTE, lines: bool = True) -> None:
    """Title that says `what`, note, a legend for lines and bars, nothing cut, too small, or over something else."""
    for word in what:
        assert word in title_of(figure)
    assert "devtest" not in title_of(figure)
    shown = texts(figure)
    assert any(" ".join(text.get_text().split()).endswith(note) for text in shown)
    assert min(text.get_fontsize() for text in shown) >= SMALLEST
    assert figure.get_figwidth() <= 10
    assert not lines or figure.legends
    _check_places(figure, shown)
    assert not lines or any(axes.get_xlabel() for axes in figure.axes)


def _check_places(figure: Figure, shown: list[Text]) -> None:
    page = figure.bbox.padded(2)
    # Of annotations without their arrows.
    level = [(text, Text.get_window_extent(text).padded(-1)) for text in shown if text.get_rotation() in (0, 90)]
    ticks = [(text, box) for text, box in level if _seen(text, figure, box)]
    for text, box in ticks:
        inside = page.x0 <= box.x0 and box.x1 <= page.x1 and page.y0 <= box.y0 and box.y1 <= page.y1
        assert inside, f"{text.get_text()!r} is cut"
    for (one, box), (other, there) in combinations(ticks, 2):
        assert not box.overlaps(there), f"{one.get_text()!r} over {other.get_text()!r}"
    for legend in [*figure.legends, *(axes.get_legend() for axes in figure.axes if axes.get_legend())]:
        for axes in figure.axes:
            assert not legend.get_window_extent().padded(-1).overlaps(axes.get_window_extent()), "legend over data"


def _seen(text: Text, figure: Figure, box: Any) -> bool:
    """Labels of ticks outside of the axis' limits exist, but are not drawn."""
    for axes in figure.axes:
        if text in axes.get_xticklabels():
            return bool(axes.bbox.x0 - 1 <= (box.x0 + box.x1) / 2 <= axes.bbox.x1 + 1)
        if text in axes.get_yticklabels():
            return bool(axes.bbox.y0 - 1 <= (box.y0 + box.y1) / 2 <= axes.bbox.y1 + 1)
    return True


def check_bars(figure: Figure) -> None:
    """Bars begin at zero, inside of the limits."""
    bars = [(axes, bar) for axes in figure.axes for bar in axes.patches if hasattr(bar, "get_width")]
    assert bars
    for axes, bar in bars:
        assert bar.get_x() == 0
        assert axes.get_xlim()[0] <= 0
