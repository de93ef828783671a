"""The report of a study: one page to read offline, with pictures, sound and every prediction behind its numbers.

What belongs here: what the page says (`sentences`, `failures`, `sections`), what it carries (`known`, `runs`, `media`), where it is
written (`place`), and its own templates, scripts and styles. What does not: any number that a table does not hold.
"""
