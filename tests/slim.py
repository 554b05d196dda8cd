"""Imports what works on arrays where nothing but its four libraries is installed, and computes the README's example."""
