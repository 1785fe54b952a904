"""The tests of the bookings."""
