"""A character language model that writes: by lot, and by beam search over forked sessions."""
