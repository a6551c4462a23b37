"""Noise suppression: two models in a row, a few milliseconds of sound at a time."""
