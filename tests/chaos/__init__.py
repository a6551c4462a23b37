"""Sessions under servers, stores and networks that fail: `make chaos`, not in `make test`."""
