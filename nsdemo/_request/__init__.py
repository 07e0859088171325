"""What a caller may ask for: the table of options, and each value checked."""
