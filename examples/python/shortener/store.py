"""Where names are kept: one SQLite table."""

import secrets
import sqlite3
from urllib.parse import urlsplit

NAME_BYTES = 4
ADDRESS_LENGTH_MAX = 2048


class BadAddress(ValueError):
    """An address that nobody should be sent to."""


class Store:
    """Names and the addresses that they stand for."""

    def __init__(self, path: str) -> None:
        self.db = sqlite3.connect(path, check_same_thread=False)
        with self.db:
            self.db.execute("CREATE TABLE IF NOT EXISTS link (name TEXT PRIMARY KEY, address TEXT UNIQUE NOT NULL)")

    def add(self, address: str) -> str:
        """The name of `address`, the same one at every call."""
        if len(address) > ADDRESS_LENGTH_MAX or urlsplit(address).scheme not in ("http", "https"):
            raise BadAddress(address[:80])
        known = self.db.execute("SELECT name FROM link WHERE address = ?", [address]).fetchone()
        if known:
            return known[0]
        name = secrets.token_urlsafe(NAME_BYTES)
        with self.db:
            self.db.execute("INSERT INTO link VALUES (?, ?)", [name, address])
        return name

    def find(self, name: str) -> str | None:
        """The address behind a name."""
        found = self.db.execute("SELECT address FROM link WHERE name = ?", [name]).fetchone()
        return found and found[0]

    def close(self) -> None:
        self.db.close()
