"""The annotations of shapes and types are run by every test: a call that they do not describe fails.

Here and not in conftest.py, since it must come before the first import of the packages.
"""

from beartype import BeartypeConf, beartype
from jaxtyping import install_import_hook

checker = beartype(conf=BeartypeConf(is_pep484_tower=True))  # an int is taken for a float, as in Python's own rules
CHECKED = ("mpo",)  # reward follows when its protocols are runtime_checkable

install_import_hook(CHECKED, "tests.checker")
