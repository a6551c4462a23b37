"""Client SDK of Carousel."""

__version__ = "0.1.0"
