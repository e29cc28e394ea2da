"""One image: from the bytes of a file to an H×W×C array, and operations on such arrays."""
