"""`python -m scbatchnorm` is the command line: for where the script is not on the path."""

import sys

from scbatchnorm.cli import main

sys.exit(main())
