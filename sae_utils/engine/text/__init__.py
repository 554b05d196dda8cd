"""Text: the toy world and other corpora, dealt to splits and cut into rows of tokens."""
