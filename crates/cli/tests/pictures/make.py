#!/usr/bin/env python3
"""Makes the pictures of this folder from code.png: `handfast pair generate --qr-image` of the text in code.txt.

Needs Pillow. They are committed, so that no test needs it; run this only to change them.
"""

import random
import struct
import zlib
from pathlib import Path

from PIL import Image, ImageFilter

HERE = Path(__file__).parent
random.seed(1)


def chunk(kind, data):
    body = kind + data
    return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))


def png(name, picture, depth, colour, rows, interlace=0):
    """Writes the forms that Pillow does not write."""
    head = struct.pack(">IIBBBBB", picture.width, picture.height, depth, colour, 0, 0, interlace)
    idat = zlib.compress(b"".join(b"\0" + row for row in rows), 9)
    (HERE / name).write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", idat) + chunk(b"IEND", b"")
    )


def photo(code):
    """The code on a screen, seen from the side in bad light by a camera that is not quite still."""
    scene = Image.new("RGB", (640, 480), (58, 66, 74))
    scene.paste(code.resize((300, 300), Image.LANCZOS).convert("RGB"), (170, 90))
    scene = scene.rotate(11, Image.BICUBIC, fillcolor=(58, 66, 74))
    scene = scene.transform(scene.size, Image.PERSPECTIVE, (1.06, 0.03, -12, 0.02, 1.04, -9, 1.2e-4, 6e-5), Image.BICUBIC)
    scene = scene.filter(ImageFilter.GaussianBlur(1.1))
    pixels = scene.load()
    for y in range(scene.height):
        for x in range(scene.width):
            light = 0.55 + 0.4 * x / scene.width
            noise = random.gauss(0, 7)
            pixels[x, y] = tuple(max(0, min(255, int(c * light + 18 + noise))) for c in pixels[x, y])
    return scene


code = Image.open(HERE / "code.png").convert("L")
scene = photo(code)
scene.save(HERE / "photo.jpg", quality=55)
scene.save(HERE / "progressive.jpg", quality=40, progressive=True)
code.resize((225, 225)).save(HERE / "grey.jpg", quality=60)

small = code.resize((135, 135), Image.NEAREST)
at = small.load()
PASSES = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]
rows = [
    bytes(at[x, y] for x in range(x0, small.width, dx))
    for x0, y0, dx, dy in PASSES
    for y in range(y0, small.height, dy)
]
png("interlaced.png", small, 8, 0, rows, interlace=1)
small.convert("RGB").quantize(4).save(HERE / "palette.png")
clear = Image.new("RGBA", small.size, (0, 0, 0, 0))
clear.paste((20, 20, 60, 255), mask=small.point(lambda grey: 255 - grey))
clear.save(HERE / "transparent.png")
rows = [b"".join(struct.pack(">HHH", at[x, y] * 257, at[x, y] * 200, at[x, y] * 257) for x in range(small.width))
        for y in range(small.height)]
png("deep.png", small, 16, 2, rows)
