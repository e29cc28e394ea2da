"""What the parts of the engine agree on: settings, callbacks, and the base of all supervisors."""
