"""Foundations of the engine: settings, callbacks and the base class of all supervisors."""
