"""What DynaBERT brings besides its recipe: data augmentation, and pictures of attention. No component of its own registers."""
