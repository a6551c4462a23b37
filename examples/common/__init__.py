"""What the examples share: a server to talk to, and how they speak to people."""
