"""Figures: functions that draw arrays as a matplotlib figure, without a supervisor."""
