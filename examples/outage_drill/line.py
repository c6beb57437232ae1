"""A line between a worker and a server on this machine, which can be cut and mended."""

import contextlib
import socket
import threading
from urllib.parse import urlsplit


class Line:
    def __init__(self, address):
        parts = urlsplit(address)
        self.target = parts.hostname, parts.port
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        self.is_cut = False
        self.ends = []
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            near, _ = self.listener.accept()
            if self.is_cut:
                near.close()
                continue
            far = socket.create_connection(self.target)
            self.ends += [near, far]
            for source, sink in ((near, far), (far, near)):
                threading.Thread(target=self.carry, args=(source, sink), daemon=True).start()

    def carry(self, source, sink):
        with contextlib.suppress(OSError):
            while piece := source.recv(65_536):
                sink.sendall(piece)
        self.hang_up(source, sink)
        source.close()

    def cut(self):
        self.is_cut = True
        self.hang_up(*self.ends)
        self.ends.clear()

    def mend(self):
        self.is_cut = False

    @staticmethod
    def hang_up(*ends):
        for end in ends:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
