"""The store, on a file of its own."""

import pathlib
import tempfile
import unittest

from shortener.store import BadAddress, Store


class Names(unittest.TestCase):
    def setUp(self):
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.path = pathlib.Path(directory.name, "links.db")
        self.store = Store(str(self.path))
        self.addCleanup(lambda: self.store.close())

    def test_a_name_leads_to_its_address(self):
        name = self.store.add("https://example.org/a")
        self.assertEqual(self.store.find(name), "https://example.org/a")

    def test_an_address_keeps_its_name(self):
        self.assertEqual(self.store.add("https://example.org/"), self.store.add("https://example.org/"))

    def test_other_schemes_are_refused(self):
        for address in ("javascript:alert(1)", "file:///etc/passwd", "", "example.org"):
            with self.assertRaises(BadAddress):
                self.store.add(address)

    def test_names_outlive_the_process(self):
        name = self.store.add("https://example.org/kept")
        self.store.close()
        self.store = Store(str(self.path))
        self.assertEqual(self.store.find(name), "https://example.org/kept")
