"""One run of the loop: steps, signals, precision, protection against values that are not finite."""
