"""How alike paired rows are arranged: what the measures compute."""
