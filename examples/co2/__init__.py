"""Forecasting the carbon dioxide over Mauna Loa, from a CSV file to a stream of answers."""
