"""Tests of carousel_exporter.precision."""
