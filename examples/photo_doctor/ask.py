"""Paint a dark photo and a bright one, and ask about both; then send what is no photo."""

import struct
import zlib

from blocks_worker import TaskClient, TaskFailedError, file_part


def photo(width, height, light):
    """Return a grey PNG, a little brighter to the right."""
    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    row = b"\x00" + bytes(light + x // 8 for x in range(width))
    chunks = ((b"IHDR", head), (b"IDAT", zlib.compress(row * height)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )


with TaskClient.create("free") as client:
    for name, light in (("night.png", 20), ("beach.png", 220)):
        part = file_part(photo(96, 64, light), file_name=name, content_type="image/png")
        with client.send_message("photo_doctor", [part]) as session:
            for event in session:
                if event.message:
                    print("status:", event.message)
            print(session.text())
    try:
        client.run("photo_doctor", [file_part(b"<svg/>", file_name="logo.svg", content_type="image/svg+xml")])
    except TaskFailedError as error:
        print("refused:", error.event.error)
