"""The operator graph: what a block or network computes, independent of any framework.

`graph` describes and matches it, `costs` counts what it costs, `to_keras` and `from_keras` translate it.
"""

from blsm.operators.graph import Cursor, NoMatch, Operator, OperatorGraph, Tensor, trace

__all__ = ["Cursor", "NoMatch", "Operator", "OperatorGraph", "Tensor", "trace"]
