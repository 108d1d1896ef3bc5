"""What all tests share: the path to `naive`, and how hypothesis draws its examples."""

import sys
from pathlib import Path

from hypothesis import settings

sys.path.insert(0, str(Path(__file__).parent))  # for `import naive`

# The same examples in every run: a failure is a change of the code, never the luck of the draw.
settings.register_profile(
    "house", derandomize=True, database=None, deadline=None, max_examples=25, print_blob=False
)
settings.load_profile("house")
