"""How the pages are built: Sphinx, MyST and furo."""

from importlib.metadata import version as version_of

project = "keybrake"
copyright = "2026, the keybrake developers"  # noqa: A001 -- Sphinx's name for it
version = release = version_of("keybrake")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]

myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_preserve_defaults = True
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True

html_theme = "furo"
html_title = f"keybrake {release}"
