"""The site: `make -C docs html`, with forwardpass and its extra [docs] installed. The pages stay plain Markdown."""

from __future__ import annotations

import forwardpass

project = "forwardpass"
author = "the authors of forwardpass"
project_copyright = "the authors of forwardpass, Apache-2.0"
release = version = forwardpass.__version__

extensions = ["myst_parser", "numpydoc", "sphinx.ext.autodoc", "sphinx.ext.autosummary"]
exclude_patterns = ["_build"]
templates_path = ["_templates"]
default_role = "literal"  # docstrings write `name`, as Markdown does

myst_heading_anchors = 3

autodoc_typehints = "none"  # the sections of numpydoc name the types
autodoc_member_order = "bysource"
autosummary_ignore_module_all = False
numpydoc_show_class_members = False

html_theme = "pydata_sphinx_theme"
html_context = {"default_mode": "auto"}
html_title = "forwardpass"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_copy_source = False
html_sidebars = {"**": ["pages.html"]}
html_theme_options = {
    "navbar_center": [],
    "navbar_end": ["theme-switcher"],
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": [],
}
