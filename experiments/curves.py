"""Curves as SVG: means with 95 % intervals over a number or over places. Standard library only."""
import math
from html import escape

# Each told apart by colour, dash and mark; light and dark.
COLOURS = [("#1a66c2", "#6cb0ff"), ("#b5460f", "#ff9a62"), ("#2e7d32", "#7fd083"), ("#8e2f9e", "#dc8fe9"), ("#7a6200", "#e0c341"), ("#00737d", "#5fd3dd")]
DASHES = ["", "7 4", "2 4", "9 3 2 3", "1 3", "12 5"]


def ticks(low, high, count=5):
    """Round numbers between two ends, and the decimals to write them with."""
    rough = (high - low) / count
    power = 10 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in [1, 2, 5, 10] if factor * power >= rough)
    values = [step * multiple for multiple in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]
    return values, max(0, -math.floor(math.log10(step) + 1e-9))


def curves(path, title, x, y, series, logarithmic=False, places=None, from_zero=False):
    """`series` are (name, [(x, mean, low, high)]); with `places`, x counts them from 0."""
    width, top, left, right = 640, 58 + 18 * ((len(series) + 2) // 3 - 1), 62, 20
    bottom = top + 260
    at = math.log if logarithmic else float
    xs = sorted({point[0] for _, points in series for point in points})
    first, last = at(xs[0]), at(xs[-1])
    room = 0.04 * (last - first or 1)
    place = lambda value: left + (at(value) - first + room) / (last - first + 2 * room) * (width - left - right)
    ends = [end for _, points in series for point in points for end in point[1:]]
    low, high = min(ends), max(ends)
    low, high = (0.0 if from_zero else low - 0.06 * (high - low)), high + 0.06 * (high - low)
    height = lambda value: bottom - (value - low) / (high - low) * (bottom - top)
    values, decimals = ticks(low, high)
    number = lambda value, digits: f"{value:.{digits}f}".replace("-", "−")
    label = lambda value: escape(places[int(value)]) if places else f"{value:g}"
    told = "; ".join(f"{name}: " + ", ".join(f"{label(p[0])} {p[1]:.{decimals + 1}f}" for p in points) for name, points in series)
    classes = "".join(f".c{i}{{stroke:{c[0]}}}.d{i}{{fill:{c[0]}}}" for i, c in enumerate(COLOURS))
    dark = "".join(f".c{i}{{stroke:{c[1]}}}.d{i}{{fill:{c[1]}}}" for i, c in enumerate(COLOURS))
    svg = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {bottom + 52}" role="img" '
        f'font-family="system-ui, DejaVu Sans, sans-serif" font-size="12"><title>{escape(title)}. {escape(told)}</title>',
        "<style>svg{background:#fff}text{fill:#5d6b7a}.n{fill:#16202c}.g{stroke:#e1e6ec}.a{fill:none;stroke-width:2}.i{stroke-width:1.4}"
        f"{classes}@media(prefers-color-scheme:dark){{svg{{background:#171e26}}text{{fill:#93a1b0}}.n{{fill:#e6ebf1}}"
        f".g{{stroke:#28323d}}{dark}}}</style>",
        f'<text class="n" x="20" y="22" font-weight="600" font-size="14">{escape(title)}</text>',
    ]
    for index, (name, _) in enumerate(series):
        across, down = left + 192 * (index % 3), 44 + 18 * (index // 3)
        svg.append(f'<line class="a c{index}" stroke-dasharray="{DASHES[index]}" x1="{across}" x2="{across + 26}" y1="{down - 4}" y2="{down - 4}"/>')
        svg.append(f'<circle class="d{index}" cx="{across + 13}" cy="{down - 4}" r="3.5"/><text class="n" x="{across + 32}" y="{down}">{escape(name)}</text>')
    for value in values:
        svg.append(f'<line class="g" x1="{left}" x2="{width - right}" y1="{height(value):.1f}" y2="{height(value):.1f}"/>')
        svg.append(f'<text x="{left - 8}" y="{height(value) + 4:.1f}" text-anchor="end">{number(value, decimals)}</text>')
    shown = -math.inf
    for value in xs:
        # Labels that would lie on each other are left out.
        if place(value) - shown >= (0 if places else 30):
            shown = place(value)
            svg.append(f'<text x="{shown:.1f}" y="{bottom + 18}" text-anchor="middle">{label(value)}</text>')
    for index, (_, points) in enumerate(series):
        # Beside each other, so that intervals of one place can be told apart.
        aside = 3 * (index - (len(series) - 1) / 2)
        line = " ".join(f"{place(p[0]) + aside:.1f},{height(p[1]):.1f}" for p in points)
        svg.append(f'<polyline class="a c{index}" stroke-dasharray="{DASHES[index]}" points="{line}"/>')
        for value, mean, a, b in points:
            across = place(value) + aside
            svg.append(f'<line class="i c{index}" x1="{across:.1f}" x2="{across:.1f}" y1="{height(max(a, low)):.1f}" y2="{height(b):.1f}"/>')
            svg.append(f'<circle class="d{index}" cx="{across:.1f}" cy="{height(mean):.1f}" r="3.5"/>')
    svg.append(f'<text x="{width - right}" y="{bottom + 40}" text-anchor="end">{escape(x)}</text>')
    svg.append(f'<text transform="translate(14 {(top + bottom) / 2}) rotate(-90)" text-anchor="middle">{escape(y)}</text></svg>')
    path.write_text("\n".join(svg) + "\n")
