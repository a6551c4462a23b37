"""The gRPC edge: servicers, conversion between messages and columns, and the status table."""
