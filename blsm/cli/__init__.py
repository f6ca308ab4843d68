"""The command line: one module per command, each a parser and an adapter to plain functions."""
