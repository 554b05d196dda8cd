"""The analysis of notebook `controls`: the primary verdict, every control, and what trivial accounts explain."""
