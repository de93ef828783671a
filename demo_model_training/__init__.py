"""Training of the tiny models of the demo; not part of the installed package."""
