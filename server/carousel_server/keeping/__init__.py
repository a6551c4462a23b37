"""Keeping sessions safe: what the engines gather goes to the store, and comes back from it."""
