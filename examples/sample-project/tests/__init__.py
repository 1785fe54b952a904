"""The tests of the sample project."""
