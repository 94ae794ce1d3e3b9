"""`python -m reward.cli`, as `torchrun -m` and `accelerate launch -m` start it."""

from reward.cli import main

if __name__ == "__main__":
    main()
