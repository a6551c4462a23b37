"""What happens inside a recurrent layer, drawn and measured: the pictures of docs/lstm.md."""
