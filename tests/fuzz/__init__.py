"""Fuzzing of the parsers of ours: `targets` says what must hold, `run` looks for what breaks it.

What was found, and what leads far into a parser, is in `corpus/`, which
`test_corpus` runs with the other tests.
"""
