"""What is known: bands, sensors, scenes and products. A leaf that the other packages import."""
