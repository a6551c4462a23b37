"""Where checkpoints go, so that sessions outlive their server: memory, files, Redis."""
