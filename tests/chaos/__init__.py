"""Sessions under servers, stores and networks that fail; `make chaos`, not a part of `make test`."""
