"""`python -m slimformer`, which torchrun and accelerate launch need."""

from slimformer.cli.app import main

main()
