"""Bookings of one room, by hours of a day."""

OPENS = 8
CLOSES = 18


class Taken(Exception):
    """The room is booked for a part of this time."""


class Room:
    """A room and its bookings: pairs of first hour and end, the end not included."""

    def __init__(self) -> None:
        self.bookings: list[tuple[int, int]] = []

    def is_free(self, start: int, end: int) -> bool:
        return all(end <= first or start > last for first, last in self.bookings)

    def book(self, start: int, end: int) -> None:
        if not OPENS <= start < end <= CLOSES:
            raise ValueError(f"{start} to {end} is no time within {OPENS} to {CLOSES}")
        if not self.is_free(start, end):
            raise Taken(f"{start} to {end}")
        self.bookings.append((start, end))

    def hours_left(self) -> int:
        return CLOSES - OPENS - sum(last - first + 1 for first, last in self.bookings)
