"""`python -m flowbench`, for machines where the console script is not on the path."""

from flowbench.cli import main

if __name__ == "__main__":
    main()
