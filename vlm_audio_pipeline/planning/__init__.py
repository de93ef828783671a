"""Plan and run a study: its graph, staleness, the planner, the executor and the budget.

Belongs here: the code that selects and executes steps. Does not belong here: Dagster (`dagster_app`),
printing (`cli`), and science. Each step calls one function of another folder.
"""
