"""The tests of the shortener."""
