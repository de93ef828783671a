"""What runs, when and why: the graph of a study, the planner, and the Dagster assets made from them.

`graph`, `state`, `planner`, `execution`, `publishing` and `display` work without Dagster; every other file is its wiring.
No science belongs here: a step calls one function of another room.
"""
