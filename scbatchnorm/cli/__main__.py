import sys

from scbatchnorm.cli import main

sys.exit(main())
