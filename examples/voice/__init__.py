"""Voice activity detection: who speaks when, chunk by chunk as a microphone gives them."""
