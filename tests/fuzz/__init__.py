"""Fuzzing of our parsers: `targets` has the properties, `run` looks for violations.

Inputs that once failed, or that reach deep into a parser, are in `corpus/`, which
`test_corpus` runs with the other tests.
"""
