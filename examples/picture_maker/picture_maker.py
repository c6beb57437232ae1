"""Paints a PNG and hands it over while the run goes on."""

import struct
import zlib


def handler(task, ctx):
    width, height = (int(word) for word in task.text(default="96 64").split())
    rows = []
    for y in range(height):
        ctx.check_cancelled()
        ctx.report_progress(y / height, f"row {y} of {height}")
        rows.append(b"\x00" + bytes(channel for x in range(width) for channel in color(x / width, y / height)))
    ctx.publish_artifact(png(width, height, b"".join(rows)), mime_type="image/png", file_name="picture.png")


def color(x, y):
    return int(255 * x), int(255 * y), int(255 * (1 - x) * (1 - y))


def png(width, height, pixels):
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(pixels)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
