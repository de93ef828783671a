"""Predictions -> numbers: metrics and the leaderboard.

What belongs here: counting and statistics over prediction tables. What does not: pages and plots of them.
"""
