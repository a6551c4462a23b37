"""What an RNN, a GRU and an LSTM still know after many steps."""
