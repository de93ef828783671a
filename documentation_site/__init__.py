"""The documentation site: what mkdocs needs beside `docs/` and `mkdocs.yml`. `make docs` builds it.

Belongs here: pages that are made from the program or from files outside `docs/`. Does not belong here: text; it is in `docs/`
and README.md, which must also be readable without the site. Not part of the wheel.
"""
