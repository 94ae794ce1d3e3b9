"""What a model's networks hold and do, counted on torch's meta device."""
