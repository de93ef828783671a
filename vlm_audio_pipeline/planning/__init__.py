"""What runs, when and why: the graph of a study, staleness, the planner, the executor and the budget.

Belongs here: everything that decides which steps run and that runs them. Does not belong here: Dagster (`dagster_app`),
printing (`cli`), and science. A step calls one function of another folder.
"""
