"""A forest plot as SVG: a mean and its 95 % interval a row. Standard library only."""
import math
import statistics
from html import escape

# The 97.5 % quantile of Student's t by degrees of freedom: the interval is a 95 % one, two-sided.
T = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306, 9: 2.262}


def interval(values):
    """The mean of some values and the ends of its interval."""
    mean = statistics.mean(values)
    reach = T[len(values) - 1] * statistics.stdev(values) / math.sqrt(len(values))
    return mean, mean - reach, mean + reach


def forest(path, title, unit, rows):
    """`rows` are (name, mean, low, high)."""
    width, side, row, top = 640, 20, 38, 40
    bottom = top + row * len(rows)
    ends = [0.0] + [end for _, *numbers in rows for end in numbers]
    low, high = min(ends), max(ends)
    room = 0.06 * (high - low)
    low, high = low - room, high + room
    x = lambda value: side + (value - low) / (high - low) * (width - 2 * side)
    rough = (high - low) / 6
    power = 10 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in [1, 2, 5, 10] if factor * power >= rough)
    decimals = max(0, -math.floor(math.log10(step)))
    told = "; ".join(f"{name} {mean:+.2f} ({a:+.2f} to {b:+.2f})" for name, mean, a, b in rows)
    svg = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {bottom + 48}" role="img" '
        f'font-family="system-ui, DejaVu Sans, sans-serif" font-size="12"><title>{escape(title)}: {escape(told)}</title>',
        "<style>svg{background:#fff}text{fill:#5d6b7a}.n{fill:#16202c}.g{stroke:#e1e6ec}.z{stroke:#16202c}"
        ".l{stroke:#1a66c2;stroke-width:2.4}.d{fill:#1a66c2}.o{paint-order:stroke;stroke:#fff;stroke-width:4px}"
        "@media(prefers-color-scheme:dark){svg{background:#171e26}text{fill:#93a1b0}.n{fill:#e6ebf1}.g{stroke:#28323d}"
        ".z{stroke:#e6ebf1}.l{stroke:#6cb0ff}.d{fill:#6cb0ff}.o{stroke:#171e26}}</style>",
        f'<text class="n" x="{side}" y="22" font-weight="600" font-size="14">{escape(title)}</text>',
    ]
    for multiple in range(math.ceil(low / step), math.floor(high / step) + 1):
        tick = multiple * step
        kind = "z" if multiple == 0 else "g"
        svg.append(f'<line class="{kind}" x1="{x(tick):.1f}" x2="{x(tick):.1f}" y1="{top}" y2="{bottom}"/>')
        label = f"{tick:.{decimals}f}".replace("-", "−")
        svg.append(f'<text x="{x(tick):.1f}" y="{bottom + 16}" text-anchor="middle">{label}</text>')
    for index, (name, mean, a, b) in enumerate(rows):
        y = top + row * index
        figures = f"{mean:+.2f} ({a:+.2f} to {b:+.2f})".replace("-", "−")
        svg.append(f'<text class="n o" x="{side}" y="{y + 14}">{escape(name)}</text>')
        svg.append(f'<text class="o" x="{width - side}" y="{y + 14}" text-anchor="end">{figures}</text>')
        svg.append(f'<line class="l" x1="{x(a):.1f}" x2="{x(b):.1f}" y1="{y + 25}" y2="{y + 25}"/>')
        svg.append(f'<circle class="d" cx="{x(mean):.1f}" cy="{y + 25}" r="4.5"/>')
    svg.append(f'<text x="{width - side}" y="{bottom + 38}" text-anchor="end">{escape(unit)}</text></svg>')
    path.write_text("\n".join(svg) + "\n")
