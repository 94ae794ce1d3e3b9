"""What a page holds."""

import json
import re
from typing import Any


def data_of(page: str, name: str = "data") -> Any:
    """The record in a script of this name."""
    (text,) = re.findall(rf'<script type="application/json" id="{name}">(.*?)</script>', page, re.DOTALL)
    return json.loads(text)
