"""The README's tables of measurements: one for each processor that they were made on, the last one unfolded."""
import platform, re
from pathlib import Path

README = Path(__file__).resolve().parent.parent / "README.md"


def processor():
    names = (line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name"))
    return next(names, platform.processor())


def put(mark, text):
    """Puts a text between the marks, in place of the one of this processor."""
    begin, end = f"<!-- {mark}: begin -->\n", f"<!-- {mark}: end -->"
    head, rest = README.read_text().split(begin)
    before, tail = rest.split(end)
    folded = re.findall(r"<details.*?</details>\n", before, re.DOTALL)
    others = [part.replace("<details open>", "<details>") for part in folded
              if f"<summary>{processor()}</summary>" not in part]
    own = f"<details open>\n<summary>{processor()}</summary>\n\n{text}\n\n</details>\n"
    README.write_text(head + begin + "\n".join([own, *others]) + end + tail)
