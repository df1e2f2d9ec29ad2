"""How the system is doing, told to whoever watches: metrics, health, the screen of `isotherm status`."""
