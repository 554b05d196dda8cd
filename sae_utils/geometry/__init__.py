"""How alike paired rows are arranged: measures and their closed moments. Arrays in, numbers out."""
