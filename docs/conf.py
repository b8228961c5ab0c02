"""Sphinx settings: Markdown pages, and the reference from the installed package's docstrings."""

from importlib.metadata import version as installed

project = "hornpipe"
author = "hornpipe contributors"
release = version = installed("hornpipe")

extensions = ["myst_parser", "sphinx.ext.autodoc"]
myst_heading_anchors = 3
nitpicky = False
# Two facts of System V objects are called "bytes", and so is the type: which one an annotation means is no question.
suppress_warnings = ["ref.python"]

autodoc_member_order = "bysource"
autodoc_typehints = "signature"

html_theme = "furo"
html_title = "hornpipe"
