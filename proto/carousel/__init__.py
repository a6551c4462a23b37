"""Carousel's protocol: the generated messages and stubs in `carousel.v1`, and `carousel.wire`."""

__version__ = "0.1.0"
