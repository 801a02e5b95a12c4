"""Plots drawn on the server as SVG: bars told apart by pattern as well as colour. Numbers in, markup out.

Each plot is drawn twice: wide, and narrow for a screen of 320 px, where its text is still 12 px high. A plot
has a title and a description for whoever does not see it; its numbers stand in a table beside it. What comes
in an order, as months do, stands side by side; named things are told one below another, with room for names.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape

from django.utils.formats import localize
from django.utils.safestring import SafeString, mark_safe

WIDE, NARROW = 680, 280  # user units; one is a pixel where the drawing fits its width
TEXT = 14
LEAST = 12  # px
TOP, BOTTOM, LEFT = 16, 28, 44
LINE = 22  # of the legend, and of the unit below it
HEIGHT = 240
WIDEST = 36  # of one bar
ROW, THICK = 58, 20  # of a bar that lies: from one name to the next, and its own
# (ground, pattern) for each series: solid, rising lines, dots, falling lines.
INKS = ("#0b4f5e", "#b25c00", "#5a2d82", "#3d6b1f")
PATTERNS = (
    "",
    '<path d="M0 8 8 0M-2 2 2-2M6 10 10 6" stroke="#fff" stroke-width="2.5"/>',
    '<circle cx="4" cy="4" r="2" fill="#fff"/>',
    '<path d="M0 0 8 8M-2 6 2 10M6-2 10 2" stroke="#fff" stroke-width="1.5"/>',
)
NOTHING = ""  # there was nothing to count or to measure
Value = int | float | str | None  # a str is NOTHING; None is hidden


@dataclass(frozen=True)
class Series:
    """One kind of bar; `values` are as many as the plot has `labels`. None: hidden, drawn as a dot."""

    name: str
    values: Sequence[Value]


@dataclass(frozen=True)
class Plot:
    """`name` is unique on its page (it names the drawing's parts); `unit` stands on the axis.

    `lying`: its one series is drawn as bars that lie, each below its own name.
    """

    name: str
    title: str
    description: str
    labels: Sequence[str]
    series: Sequence[Series]
    unit: str = ""
    lying: bool = False

    @property
    def values(self) -> list[Value]:
        return [value for one in self.series for value in one.values]

    @property
    def is_empty(self) -> bool:
        """Whether there is no bar to draw."""
        return not any(map(_is_shown, self.values))

    @property
    def wide(self) -> SafeString:
        return _draw(self, WIDE)

    @property
    def narrow(self) -> SafeString:
        return _draw(self, NARROW)


def _draw(plot: Plot, width: int) -> SafeString:
    """The drawing; every text in it is escaped, and it carries no style and no script."""
    key = f"{plot.name}-{width}"
    top = 0 if plot.lying else TOP + (_legend_rows(plot, width) + bool(plot.unit)) * LINE + 8
    height = ROW * len(plot.labels) if plot.lying else top + HEIGHT + BOTTOM
    most = max(map(_size, plot.values), default=0)
    ceiling = nice(most)
    inside = (
        _lying(plot, key, width, most)
        if plot.lying
        else (
            *_legend(plot, key, width),
            *_axis(plot, width, top, ceiling),
            *_bars(plot, key, width, top, ceiling),
        )
    )
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img"'
        # Numbers grow to the right whatever the page's own direction.
        f' aria-labelledby="{key}-t {key}-d" font-size="{TEXT}" width="{width}" height="{height}"'
        ' direction="ltr" fill="#0b0c0c">',
        f'<title id="{key}-t">{escape(plot.title)}</title>',
        f'<desc id="{key}-d">{escape(plot.description)}</desc>',
        f"<defs>{''.join(_pattern(key, number) for number in range(len(plot.series)))}</defs>",
        *inside,
        "</svg>",
    ]
    return mark_safe("".join(parts))  # noqa: S308 (made here, of numbers and of escaped text)


def _size(value: Value) -> float:
    """How long the bar is; what is hidden and what is nothing have none."""
    return value if isinstance(value, int | float) else 0


def _is_shown(value: Value) -> bool:
    """Whether it has a bar: a count of none has not, a measured 0.0 has."""
    return isinstance(value, float) or bool(_size(value))


def nice(most: float) -> float:
    """The end of an axis that holds `most`: 1, 2, 4, 5 or 10 times a power of ten, at least 1."""
    step = 1.0
    while step * 10 < most:
        step *= 10
    return next((step * times for times in (1, 2, 4, 5, 10) if step * times >= most), step * 10)


def _pattern(key: str, number: int) -> str:
    ink, lines = INKS[number % len(INKS)], PATTERNS[number % len(PATTERNS)]
    return (
        f'<pattern id="{key}-p{number}" width="8" height="8" patternUnits="userSpaceOnUse">'
        f'<rect width="8" height="8" fill="{ink}"/>{lines}</pattern>'
    )


def _text_width(text: str) -> float:
    return len(text) * TEXT * 0.6


def _legend_places(plot: Plot, width: int) -> Iterator[tuple[int, float, int]]:
    """Number, x and row of each entry; a row that is full goes on below."""
    x, row = 0.0, 0
    for number, one in enumerate(plot.series):
        wanted = 24 + _text_width(one.name) + 16
        if x and x + wanted > width:
            x, row = 0.0, row + 1
        yield number, x, row
        x += wanted


def _legend_rows(plot: Plot, width: int) -> int:
    return max((row for _number, _x, row in _legend_places(plot, width)), default=-1) + 1


def _legend(plot: Plot, key: str, width: int) -> Iterator[str]:
    for number, x, row in _legend_places(plot, width):
        y = TOP + row * LINE
        yield (
            f'<rect x="{x:.0f}" y="{y - 11}" width="16" height="14" fill="url(#{key}-p{number})"'
            f' stroke="{INKS[number % len(INKS)]}"/>'
            f'<text x="{x + 22:.0f}" y="{y}">{escape(plot.series[number].name)}</text>'
        )


def _axis(plot: Plot, width: int, top: int, ceiling: float) -> Iterator[str]:
    for quarter in range(5):
        value = ceiling * quarter / 4
        y = top + HEIGHT - HEIGHT * quarter / 4
        if value != int(value) and all(_size(each) == int(_size(each)) for each in plot.values):
            continue
        yield f'<path d="M{LEFT} {y:.0f}H{width}" stroke="{"#0b0c0c" if not quarter else "#b1b4b6"}"/>'
        yield (f'<text x="{LEFT - 6}" y="{y + 5:.0f}" text-anchor="end">{_short(value)}</text>')
    if plot.unit:
        yield f'<text x="0" y="{top - 16}">{escape(plot.unit)}</text>'


def _short(value: float) -> str:
    told, unit = (value / 1000, "k") if value >= 10_000 else (value, "")
    rounded = float(f"{told:.4g}")
    return f"{localize(int(rounded) if rounded.is_integer() else rounded)}{unit}"


def _bars(plot: Plot, key: str, width: int, top: int, ceiling: float) -> Iterator[str]:
    if not plot.labels or not plot.series:
        return
    slot = (width - LEFT) / len(plot.labels)
    bar = min(WIDEST, slot * 0.8 / len(plot.series))
    margin = (slot - bar * len(plot.series)) / 2
    # Labels that would run into each other are left out, the last one never; the table has all of them.
    widest = max(map(_text_width, plot.labels))
    pushed = max(0, (widest - slot) / 2)  # the last one, so that it ends where the plot does
    every = max(1, -int(-(widest + pushed + 8) // slot))
    base = top + HEIGHT
    for number, one in enumerate(plot.series):
        bars = []
        for place, value in enumerate(one.values):
            at = LEFT + slot * place + margin + bar * number
            if value is None:
                yield f'<circle cx="{at + bar / 2:.1f}" cy="{base - 7}" r="3"/>'
            elif _is_shown(value):
                tall = max(1, HEIGHT * _size(value) / ceiling)
                bars.append(f"M{at:.1f} {base}v-{tall:.0f}h{bar:.1f}v{tall:.0f}z")
        # One path for all bars of a series: a page of plots stays light.
        if bars:
            ink = INKS[number % len(INKS)]
            yield f'<path d="{"".join(bars)}" fill="url(#{key}-p{number})" stroke="{ink}"/>'
    for place in range((len(plot.labels) - 1) % every, len(plot.labels), every):
        label = plot.labels[place]
        middle = min(LEFT + slot * (place + 0.5), width - _text_width(label) / 2)
        yield f'<text x="{middle:.1f}" y="{base + 20}" text-anchor="middle">{escape(label)}</text>'


def _lying(plot: Plot, key: str, width: int, most: float) -> Iterator[str]:
    """Each name, its bar below it, and the number at the bar's end. No axis: the numbers say it."""
    room = width - _text_width(_short(most)) - 12
    for place, (label, value) in enumerate(zip(plot.labels, plot.series[0].values, strict=True)):
        y, long = ROW * place, room * _size(value) / most if most else 0
        yield f'<text x="0" y="{y + 16}">{escape(label)}</text>'
        yield (
            f'<rect x="0.5" y="{y + 24}" width="{long:.1f}" height="{THICK}" fill="url(#{key}-p0)"'
            f' stroke="{INKS[0]}"/>'
        )
        told = "·" if value is None else _short(_size(value))
        yield f'<text x="{long + 8:.1f}" y="{y + 24 + 15}">{told}</text>'
