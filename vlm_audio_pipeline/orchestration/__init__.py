"""What runs, when and why: the graph of a study, the planner, and the Dagster assets made from them.

`graph`, `state`, `execution` and `planner` know nothing of Dagster and work without it; every other file here is its wiring. No
science belongs here: a step calls one function of another room.
"""
