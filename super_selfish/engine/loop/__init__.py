"""The training loop of one run: steps, signals, precision, and checks for non-finite values."""
