"""What follows a training without changing it: progress, history, quality, diagnosis."""
