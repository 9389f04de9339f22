"""`python -m scbatchnorm` is the command line: what launchers such as torchrun start by its module."""

import sys

from scbatchnorm.cli import main

sys.exit(main())
