"""The annotations of shapes and types are run by every test: a call that they do not describe fails.

Here and not in conftest.py, since it must come before the first import of the packages.
"""

from jaxtyping import install_import_hook

CHECKED = ("mpo", "reward")

install_import_hook(CHECKED, "beartype.beartype")
