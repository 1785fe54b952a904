"""The service, over a real connection."""

import http.client
import threading
import unittest

from shortener.server import serve
from shortener.store import ADDRESS_LENGTH_MAX, Store


class Requests(unittest.TestCase):
    def setUp(self):
        self.store = Store(":memory:")
        self.server = serve(self.store)
        thread = threading.Thread(target=self.server.serve_forever)
        thread.start()
        self.addCleanup(self.store.close)
        self.addCleanup(self.server.server_close)
        self.addCleanup(thread.join)
        self.addCleanup(self.server.shutdown)

    def request(self, method, path, body=None):
        connection = http.client.HTTPConnection(*self.server.server_address, timeout=10)
        self.addCleanup(connection.close)
        connection.request(method, path, body)
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read().decode()

    def test_a_visitor_is_sent_on(self):
        status, _, name = self.request("POST", "/", "https://example.org/far")
        self.assertEqual(status, 201)
        status, headers, _ = self.request("GET", name.strip())
        self.assertEqual((status, headers["Location"]), (302, "https://example.org/far"))

    def test_unknown_names_are_not_found(self):
        self.assertEqual(self.request("GET", "/nothing")[0], 404)

    def test_bad_addresses_are_refused(self):
        self.assertEqual(self.request("POST", "/", "javascript:alert(1)")[0], 400)
        self.assertEqual(self.request("POST", "/", b"\xff")[0], 400)
        self.assertEqual(self.request("POST", "/", "x" * (ADDRESS_LENGTH_MAX + 1))[0], 413)
