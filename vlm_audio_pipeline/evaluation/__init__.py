"""Statistics of a study: metrics, leaderboard, contrasts, embedding quality, leakage, published results and history.

Belongs here: tables computed from predictions and embeddings. Does not belong here: the formulas of single measures
(`measures`), pages and plots (`reports`).
"""
