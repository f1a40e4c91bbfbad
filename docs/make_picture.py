"""Makes docs/images/demo.png, the picture of the README, from the report of `ucseg demo`:

    make demo
    python docs/make_picture.py ucseg-demo/report.html      # a second argument: another file than docs/images/demo.png

Of the report's cases it takes the worst, one of the middle and the best.
"""

from __future__ import annotations

import base64
import io
import re
import sys
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

PICTURE = Path(__file__).parent / "images" / "demo.png"
COLUMNS = {"Image": "image", "Reference": "reference mask", "UC-Seg": "mask of UC-Seg", "Uncertainty": "uncertainty"}
FIGURE = re.compile(r'base64,([^"]+)" alt="([\w-]+) of (\w+)">\s*<figcaption><b>[^<]*</b> ([^<]*)<')
EDGE, GAP, LINE = 180, 8, 26
COLOURS = 64  # of the palette: a small file, also where the uncertainty of a short run is noise


def draw(report: Path) -> Image.Image:
    """A row a case, a column a kind of picture."""
    cases: dict[str, dict[str, tuple[Image.Image, str]]] = {}
    for data, kind, case, caption in FIGURE.findall(report.read_text(encoding="utf-8")):
        picture = Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB").resize((EDGE, EDGE))
        cases.setdefault(case, {})[kind] = picture, caption
    ranked = list(cases.values())  # from the worst to the best
    rows = [ranked[0], ranked[len(ranked) // 2], ranked[-1]]
    size = (len(COLUMNS) * (EDGE + GAP) + GAP, LINE + len(rows) * (EDGE + LINE) + GAP)
    canvas = Image.new("RGB", size, "white")
    pen, font = ImageDraw.Draw(canvas), ImageFont.load_default(15)
    for column, (kind, heading) in enumerate(COLUMNS.items()):
        x = GAP + column * (EDGE + GAP)
        pen.text((x, 5), heading, fill="black", font=font)
        for row, pictures in enumerate(rows):
            picture, caption = pictures[kind]
            y = LINE + row * (EDGE + LINE)
            canvas.paste(picture, (x, y))
            if kind == "UC-Seg":
                pen.text((x, y + EDGE + 3), caption, fill="black", font=font)
    return canvas.quantize(COLOURS)


if __name__ == "__main__":
    report, picture = Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) > 2 else PICTURE
    draw(report).save(picture, optimize=True)
    sys.stdout.write(f"wrote {picture}\n")
