"""Top tokens of features, correlation of two sets of them, and who is paired with whom. Arrays in, arrays out."""
