"""The analysis of notebooks `one_to_one` and `whole_dictionaries`: ways to pair features, and scores of all of them."""
