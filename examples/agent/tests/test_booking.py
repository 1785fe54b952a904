"""A room is booked once at a time."""

import unittest

from rooms.booking import Room, Taken


class Bookings(unittest.TestCase):
    def setUp(self):
        self.room = Room()
        self.room.book(10, 12)

    def test_overlaps_are_refused(self):
        for start, end in ((9, 11), (11, 13), (10, 12), (9, 13), (10, 11)):
            with self.assertRaises(Taken):
                self.room.book(start, end)

    def test_one_booking_may_follow_the_other(self):
        self.room.book(12, 13)
        self.room.book(9, 10)

    def test_hours_that_are_left(self):
        self.assertEqual(self.room.hours_left(), 8)

    def test_closed_hours_are_refused(self):
        for start, end in ((7, 9), (17, 19), (14, 14), (15, 14)):
            with self.assertRaises(ValueError):
                self.room.book(start, end)

    def test_the_whole_day(self):
        room = Room()
        room.book(8, 18)
        self.assertFalse(room.is_free(17, 18))
