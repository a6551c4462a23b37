"""Tests of carousel_exporter."""
