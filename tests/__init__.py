"""The annotations of shapes and types are run by every test: a call that they do not describe fails.

Here and not in conftest.py, since it must come before the first import of the packages.
"""

from pathlib import Path

from beartype import BeartypeConf, beartype
from hypothesis import HealthCheck, settings
from jaxtyping import install_import_hook

REWARD = Path(__file__).parents[1] / "reward"

checker = beartype(conf=BeartypeConf(is_pep484_tower=True))  # an int is taken for a float, as in Python's own rules
# All but reward's command line: typer calls its functions with defaults of its own kinds.
CHECKED = ("mpo", *sorted({f"reward.{path.stem}" for path in REWARD.iterdir()} - {"reward.cli", "reward.__init__"}))

install_import_hook(CHECKED, "tests.checker")

# Tests measure no time: machines are shared.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")
