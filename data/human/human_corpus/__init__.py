"""Builds the corpus of real recordings: Spanish, French, Russian, from Debian packages. `python -m human_corpus`."""
