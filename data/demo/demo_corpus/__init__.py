"""Builds the demo corpus: ten languages, spoken by eSpeak NG. `python -m demo_corpus --help`."""
