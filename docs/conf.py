"""How the documentation is built, by `make docs`: a warning or a cell that fails stops it."""

from __future__ import annotations

import sys
from pathlib import Path

import encodax

sys.path.insert(0, str(Path(__file__).parent))  # the extensions that stand beside this file

project = "Encodax"
author = "The Encodax authors"
copyright = f"2026, {author}"
version = release = encodax.__version__

extensions = [
    "command_line",
    "docstrings",
    "mathml",
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx_copybutton",
]
exclude_patterns = ["_build", "**/*.ipynb", "**/.ipynb_checkpoints"]  # a reader's notebooks
nitpicky = False
highlight_language = "none"

# Pages are MyST. The code cells of the walkthrough run, each chapter from a clean state.
myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 4
nb_execution_mode = "force"
nb_execution_raise_on_error = True
nb_execution_timeout = 180
nb_merge_streams = True

# The reference is made of the docstrings (docstrings.py).
default_role = "name"
add_module_names = False
toc_object_entries_show_parents = "hide"
autodoc_default_options = {"members": True, "special-members": "__call__"}
autoclass_content = "both"
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
python_maximum_signature_line_length = 88
autodoc_preserve_defaults = True

pygments_dark_style = "monokai"
html_theme = "furo"
html_math_renderer = "mathml"
html_title = f"Encodax {release}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sourcelink = False
copybutton_exclude = ".linenos, .gp, .go"
