"""Bookings of rooms."""
