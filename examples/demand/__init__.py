"""Electricity demand, a day ahead, from many sessions."""
