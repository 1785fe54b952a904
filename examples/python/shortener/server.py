"""The service: `POST /` with an address gives a name, `GET /NAME` sends the visitor on."""

from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from shortener.store import ADDRESS_LENGTH_MAX, BadAddress, Store


class Handler(BaseHTTPRequestHandler):
    """One request."""

    def do_POST(self) -> None:
        length = int(self.headers.get("Content-Length", 0))
        if length > ADDRESS_LENGTH_MAX:
            return self.answer(413, "too long\n")
        try:
            name = self.server.store.add(self.rfile.read(length).decode())
        except (BadAddress, UnicodeDecodeError):
            return self.answer(400, "not an address\n")
        self.answer(201, f"/{name}\n")

    def do_GET(self) -> None:
        address = self.server.store.find(self.path.removeprefix("/"))
        if address is None:
            return self.answer(404, "no such name\n")
        self.send_response(302)
        self.send_header("Location", address)
        self.end_headers()

    def answer(self, status: int, text: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "text/plain")
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_) -> None:
        """A service behind a proxy leaves this to the proxy."""


def serve(store: Store, port: int = 0) -> ThreadingHTTPServer:
    """A server that listens on 127.0.0.1, not yet serving."""
    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    server.store = store
    return server
