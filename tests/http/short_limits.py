"""The product's settings with limits of less than a second, which the environment cannot set."""

import json
import os

from orgmgmt import settings

globals().update({name: value for name, value in vars(settings).items() if name.isupper()})
globals().update(json.loads(os.environ["SHORT_LIMITS"]))
