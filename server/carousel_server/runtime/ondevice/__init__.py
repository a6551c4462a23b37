"""A model's states, inputs and outputs in a device's memory, and its steps captured there."""
