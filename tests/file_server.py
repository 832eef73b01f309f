"""A local file server that resumes or breaks off downloads, or sends wrong content, and records its requests."""

import contextlib
import dataclasses
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclasses.dataclass
class FileServer:
    """What is served, and how badly.

    Attributes:
      files: path, such as "/ml-1m.zip" -> content.
      breaks: an answer ends after so many bytes, this often; then all are whole.
      bytes_before: of those breaks.
      ranges: whether the server can continue in the midst of a file.
      status: path -> status instead of the file.
      kind: of all files.
      location: path -> address that it leads to.
      tag: header ETag of all files.
      length: header Content-Length of all files; empty: the true one.
      requests: path and Range header of each request.
    """

    files: dict[str, bytes] = dataclasses.field(default_factory=dict)
    breaks: int = 0
    bytes_before: int = 0
    ranges: bool = True
    status: dict[str, int] = dataclasses.field(default_factory=dict)
    kind: str = "application/octet-stream"
    location: dict[str, str] = dataclasses.field(default_factory=dict)
    tag: str = '"one"'
    length: str = ""
    requests: list[tuple[str, str]] = dataclasses.field(default_factory=list)
    url: str = ""

    def asked(self, path: str) -> list[str]:
        """The Range headers of all requests for a file."""
        return [given for name, given in self.requests if name == path]


@contextmanager
def serving(server: FileServer) -> Iterator[FileServer]:
    """The server on a free port, in a thread."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            wanted = self.headers["Range"] or ""
            server.requests.append((self.path, wanted))
            content = server.files.get(self.path)
            status = server.status.get(self.path, 404 if content is None else 200)
            if self.path in server.location:
                self.send_response(302)
                self.send_header("Location", server.location[self.path])
                self.end_headers()
                return
            if status != 200 or content is None:
                self.send_error(status)
                return
            self._send(content, wanted)

        def _send(self, content: bytes, wanted: str) -> None:
            begin = 0
            same = self.headers["If-Range"] in (None, server.tag)
            if server.ranges and same and (found := re.fullmatch(r"bytes=(\d+)-", wanted)):
                begin = int(found[1])
                if begin >= len(content):
                    self.send_response(416)
                    self.send_header("Content-Range", f"bytes */{len(content)}")
                    self.end_headers()
                    return
            self.send_response(206 if begin else 200)
            if begin:
                self.send_header(
                    "Content-Range", f"bytes {begin}-{len(content) - 1}/{len(content)}"
                )
            self.send_header("ETag", server.tag)
            self.send_header("Content-Type", server.kind)
            self.send_header("Content-Length", server.length or str(len(content) - begin))
            self.end_headers()
            body = content[begin:]
            if server.breaks > 0:
                server.breaks -= 1
                body = body[: server.bytes_before]
                self.close_connection = True
            with contextlib.suppress(ConnectionError):  # a client that was killed
                self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Says nothing."""

    listening = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.url = f"http://127.0.0.1:{listening.server_port}"
    thread = threading.Thread(target=listening.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        listening.shutdown()
        listening.server_close()
        thread.join()
