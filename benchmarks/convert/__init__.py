"""Conversion under test: wrong conversions that must be caught (`mutations`), made on small models (`worlds`)."""
