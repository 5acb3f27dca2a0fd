"""An HTTP server with files, ETags and redirects, for what is downloaded."""

import email.utils
import hashlib
import http.server
import threading

MTIME = 1_500_000_000


class Server:
    """Files by path, requests noted; ``/moved`` leads to ``/file``, ``/slow`` never ends."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.requests: list[tuple[str, dict[str, str], int]] = []
        self.stalled = threading.Event()
        self.release = threading.Event()
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.answer(self)

            def log_message(self, *_: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def answer(self, request: http.server.BaseHTTPRequestHandler) -> None:
        path = request.path.partition("?")[0]
        data = self.files.get(path)
        headers = {key.lower(): value for key, value in request.headers.items()}
        status = 200
        if path == "/moved":
            status = 302
        elif path == "/slow":
            request.send_response(200)
            request.send_header("Content-Length", "1000000")
            request.end_headers()
            request.wfile.write(b"x" * 1000)
            self.stalled.set()
            self.release.wait(30)
            return
        elif data is None:
            status = 404
        etag = f'"{hashlib.sha256(data or b"").hexdigest()[:8]}"'
        if status == 200 and headers.get("if-none-match") == etag:
            status = 304
        self.requests.append((path, headers, status))
        request.send_response(status)
        if status == 302:
            request.send_header("Location", "/file")
        body = data if status == 200 and data is not None else b""
        if status in (200, 304):
            request.send_header("ETag", etag)
            request.send_header("Last-Modified", email.utils.formatdate(MTIME, usegmt=True))
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        request.wfile.write(body)

    def close(self) -> None:
        self.release.set()
        self._server.shutdown()
        self._server.server_close()
