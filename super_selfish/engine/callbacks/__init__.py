"""Built-in callbacks: progress, history, monitors, diagnostics and forecast. None of them changes the training."""
