"""The annotations of shapes are run by every test: a call that they do not describe fails.

Here and not in conftest.py, since it must come before the first import of the packages.
"""

from pathlib import Path

from beartype import BeartypeConf, beartype
from hypothesis import HealthCheck, settings
from jaxtyping import install_import_hook

ROOT = Path(__file__).parents[1]

checker = beartype(conf=BeartypeConf(is_pep484_tower=True))  # an int is taken for a float, as in Python's own rules
# The modules that name shapes: to check every function of all others, too, triples the time that a process needs to import them.
CHECKED = [
    ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for package in ("mpo", "reward")
    for file in sorted((ROOT / package).rglob("*.py"))
    if "from jaxtyping import" in file.read_text("utf-8")
]

install_import_hook(CHECKED, "tests.checker")

# Tests measure no time: machines are shared.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")
