"""Pads a text to a width."""


def pad(text, width):
    return text.rjust(width)
