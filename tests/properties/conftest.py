"""How hard hypothesis tries: the same examples each time, or new ones with `thorough`."""

import os

from hypothesis import HealthCheck, settings

# Without a database and a clock the same code is tried with the same examples everywhere.
settings.register_profile(
    "default",
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
settings.register_profile(
    "thorough", settings.get_profile("default"), derandomize=False, print_blob=True
)
settings.load_profile(os.environ.get("APPB_PROPERTIES", "default"))
