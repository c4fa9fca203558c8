"""`python -m deployments.demo`."""

from deployments.demo.run import main

main()
